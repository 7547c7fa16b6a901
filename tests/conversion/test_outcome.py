import json

from empathy_lightning.conversion.outcome import ConversionReport


def test_the_table_counts_per_prefix_and_names_what_is_amiss(tmp_path):
    report = ConversionReport(["a.b.weight", "a.b.bias", "a.c.weight", "head"], ["a.d.weight"], ["x.y.weight"])
    rows = {line.split()[0]: line.split()[1:] for line in report.describe().splitlines()[1:7]}
    assert rows == {
        "a.b": ["2", "0", "0"],
        "a.c": ["1", "0", "0"],
        "a.d": ["0", "1", "0"],
        "head": ["1", "0", "0"],
        "x.y": ["0", "0", "1"],
        "total": ["4", "1", "1"],
    }
    assert "missing: a.d.weight" in report.describe() and "left over: x.y.weight" in report.describe()
    report.write(tmp_path / "new" / "report.json")
    written = json.loads((tmp_path / "new" / "report.json").read_text())
    assert written == {"used": report.used, "missing": report.missing, "left_over": report.left_over}
    assert ConversionReport(**written) == report


def test_an_empty_report_is_still_a_table():
    assert ConversionReport().describe().splitlines()[-1].split() == ["total", "0", "0", "0"]
