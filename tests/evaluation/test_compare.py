"""``evaluate table`` and ``evaluate compare``: several systems' results side by side, and whether they differ."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from empathy_lightning.__main__ import main
from empathy_lightning.data import write_manifest
from empathy_lightning.evaluation.statistics import cohen_dz, holm, mean, rank_biserial
from empathy_lightning.utterance import EMOTIONS, Utterance

QUESTIONS = 60
MEASURE = """
import json
from empathy_lightning.evaluation.measured import Measured


class Scores:
    '''What the reply says of itself: a level, whether it is right, errors of words.'''

    name = "scores"
    needs = ()
    ratios = {"word_error_rate": ("errors", "words")}
    lower_is_better = ("word_error_rate",)

    def __init__(self, of: str = "all") -> None:
        pass

    def __call__(self, replies):
        return Measured([json.loads(u.response) for u in replies], {})
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three systems' results of the same 60 questions of 12 speakers."""
    place = tmp_path_factory.mktemp("systems")
    drawn, plain = np.random.default_rng(0), []
    for number, name in enumerate(("plain", "warm", "same_as_plain")):
        rows = []
        for index in range(QUESTIONS):
            scores = {
                "level": int(np.clip(drawn.integers(0, 3) + number % 2, 0, 2)),
                "right": int(drawn.uniform() < 0.4 + 0.3 * (number % 2)),
                "errors": int(drawn.integers(0, 3)),
                "words": int(drawn.integers(4, 9)),
            }
            if number == 2:
                scores = json.loads(plain[index].response)
            true = EMOTIONS[index % 3]
            said = true if drawn.uniform() < 0.5 + 0.4 * (number % 2) else EMOTIONS[(index + 1) % 3]
            rows.append(
                Utterance(
                    id=str(index), corpus="c", path="a.wav", split="test", suite="s", transcript="Hello.",
                    speaker=str(index % 12), emotion=true, response=json.dumps({**scores, "said": said}),
                )
            )  # fmt: skip
        plain = plain or rows
        write_manifest(place / f"{name}.jsonl", rows)
    (place / "scored.py").write_text(MEASURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        for name in ("plain", "warm", "same_as_plain"):
            measures = ["scored.Scores", "answered_emotion", "answered_emotion.field=said"]
            assert run(name, name, *measures) == 0
    return place


def run(name, out, *measures):
    return main(["evaluate", "run", "--replies", f"{name}.jsonl", "--out", str(out), "--measures", *measures])


@pytest.fixture
def place(results, monkeypatch):
    monkeypatch.chdir(results)
    monkeypatch.syspath_prepend(str(results))
    return results


def lines_of(name):
    return [json.loads(line) for line in Path(name, "predictions.jsonl").read_text().splitlines()]


def rows_of(name, measure="scores"):
    return [line["measures"][measure] for line in lines_of(name)]


def compared(*words):
    assert main(["evaluate", "compare", *words, "--out", "c.json"]) == 0
    return {(row["measure"], row["figure"], *row["systems"]): row for row in json.loads(Path("c.json").read_text())}


def test_each_number_is_compared_by_its_test(place):
    found = compared("plain", "warm", "same_as_plain")
    level, warm = (np.array([row["level"] for row in rows_of(name)]) for name in ("plain", "warm"))
    row = found["scores", "level", "plain", "warm"]
    assert row["test"] == "Wilcoxon" and row["p"] == pytest.approx(stats.wilcoxon(level, warm).pvalue)
    assert row["difference"] == pytest.approx(level.mean() - warm.mean(), abs=1e-6)
    assert row["effect"] == pytest.approx(cohen_dz(level, warm), abs=1e-4)
    assert row["rank_biserial"] == pytest.approx(rank_biserial(level, warm), abs=1e-4)
    speakers = [str(index % 12) for index in range(QUESTIONS)]
    spread = mean((level - warm).tolist(), speakers)
    assert (row["low"], row["high"]) == pytest.approx((spread["low"], spread["high"]), abs=1e-6)
    right, other = (np.array([row["right"] for row in rows_of(name)]) for name in ("plain", "warm"))
    row = found["scores", "right", "plain", "warm"]
    won, lost = int((right > other).sum()), int((right < other).sum())
    assert row["test"] == "McNemar" and row["p"] == pytest.approx(stats.binomtest(won, won + lost).pvalue)
    same = found["scores", "level", "plain", "same_as_plain"]
    assert (same["difference"], same["p"], same["p_adjusted"], same["needed"]) == (0.0, 1.0, 1.0, None)


def test_p_values_are_adjusted_over_the_figures_and_pairs_of_a_measure(place):
    family = [row for row in compared("plain", "warm", "same_as_plain").values() if row["measure"] == "scores"]
    assert len(family) == 3 * 3  # level, right, word error rate, of three pairs
    assert [row["p_adjusted"] for row in family] == pytest.approx(holm([row["p"] for row in family]), rel=1e-9)


def test_a_ratio_is_compared_as_a_ratio(place):
    row = compared("plain", "warm")["scores", "word_error_rate", "plain", "warm"]
    sums = [[sum(row[name] for row in rows_of(system)) for name in ("errors", "words")] for system in ("plain", "warm")]
    rates = [errors / words for errors, words in sums]
    assert (row["own"], row["other"]) == pytest.approx(tuple(rates), abs=1e-6)
    assert row["difference"] == pytest.approx(rates[0] - rates[1], abs=1e-6)
    assert row["low"] < row["difference"] < row["high"]
    assert row["p"] > 0.05 and row["test"] == "swapped answers"


def test_a_ratio_of_lengths_is_compared_in_double_precision(place, tmp_path, monkeypatch):
    """Seconds are no whole numbers: the figures are those of the runs to the last digit that is written."""
    monkeypatch.chdir(tmp_path)
    for name, longer in (("a", 0.0), ("b", 0.1)):
        rows = []
        for index in range(4):
            said = {"errors": 123456.789 + longer, "words": 7.003 + index}
            u = Utterance(id=str(index), corpus="c", path="a.wav", split="test", suite="s", response=json.dumps(said))
            rows.append(u)
        write_manifest(tmp_path / f"{name}.jsonl", rows)
        assert run(name, name, "scored.Scores") == 0
    row = compared("a", "b")["scores", "word_error_rate", "a", "b"]
    for name, key in (("a", "own"), ("b", "other")):
        held = json.loads(Path(name, "metrics.json").read_text())["suites"]["s"]["measures"]["scores"]
        assert row[key] == held["figures"]["word_error_rate"]["value"]


def test_unweighted_accuracy_is_compared_though_no_utterance_has_it(place):
    row = compared("plain", "warm")["answered_emotion", "unweighted_accuracy", "plain", "warm"]
    metrics = [json.loads(Path(name, "metrics.json").read_text()) for name in ("plain", "warm")]
    figures = [m["suites"]["s"]["measures"]["answered_emotion"]["figures"]["unweighted_accuracy"] for m in metrics]
    assert [row["own"], row["other"]] == figures
    assert row["difference"] == pytest.approx(figures[0] - figures[1], abs=1e-6)
    assert row["high"] < 0 and row["p"] < 0.01


def test_whole_speakers_are_swapped(place):
    drawn = compared("plain", "warm", "--test", "permutation")["scores", "level", "plain", "warm"]
    differences = np.array([a["level"] - b["level"] for a, b in zip(rows_of("plain"), rows_of("warm"), strict=True)])
    sums = differences.reshape(5, 12).sum(0)
    signs = np.array(np.meshgrid(*[[1, -1]] * 12)).reshape(12, -1)
    expected = np.mean(abs(sums @ signs) >= abs(sums.sum()) - 1e-9)
    assert drawn["test"] == "permutation" and drawn["p"] == pytest.approx(expected, abs=1e-9)


def test_stars_and_what_was_tested_are_shown(place, capsys):
    assert main(["evaluate", "compare", "plain", "warm"]) == 0
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line]
    row = next(cells for cells in lines if cells[3] == "unweighted accuracy")
    assert row[4] == "plain - warm" and row[10] in ("**", "***") and row[12] == "swapped answers"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "new"}, "warm has no prediction of 1 questions of the other, such as s/c/0"),
        ({"emotion": "angry"}, "another emotion of s/c/0"),
        ({"references": ["Hi."]}, "another references of s/c/0"),
        ({"suite": "other"}, "no prediction of 1 questions"),
    ],
)
def test_predictions_that_do_not_match_are_refused(place, tmp_path, change, told, capsys):
    folder = tmp_path / "warm"
    folder.mkdir()
    lines = lines_of("warm")
    lines[0] |= change
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shutil.copyfile("warm/metrics.json", folder / "metrics.json")
    assert main(["evaluate", "compare", "plain", str(folder)]) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_cannot_be_compared_is_one_line(place, tmp_path, capsys):
    for words, told in (
        (["plain"], "two folders"), (["plain", "plain"], "given twice"), (["plain", "nowhere"], "holds no results"),
    ):  # fmt: skip
        assert main(["evaluate", "compare", *words]) == 2
        assert told in capsys.readouterr().err
    measures = ["scored.Scores", "Scores.of=some"]
    assert run("warm", tmp_path / "w", *measures) == 0
    assert main(["evaluate", "compare", "plain", str(tmp_path / "w")]) == 2
    assert "scores was made with other arguments" in capsys.readouterr().err
    assert run("warm", tmp_path / "v", "variety") == 0
    assert main(["evaluate", "compare", "plain", str(tmp_path / "v")]) == 2
    assert "have no measure in common" in capsys.readouterr().err
    (tmp_path / "v/metrics.json").write_text("{}")
    assert main(["evaluate", "compare", "plain", str(tmp_path / "v")]) == 2
    assert "is damaged" in capsys.readouterr().err
    (tmp_path / "w/predictions.jsonl").write_text(2 * (json.dumps(lines_of("warm")[0]) + "\n"))
    assert main(["evaluate", "compare", "plain", str(tmp_path / "w")]) == 2
    assert "holds s/c/0 twice" in capsys.readouterr().err


def test_a_table_in_each_format(place, capsys):
    words = ["evaluate", "table", "plain", "warm", "--figures", "s/scores/*"]
    assert main([*words, "--format", "csv", "--spread", "none"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["figure"] for row in rows] == ["word error rate", "level", "right"]
    level = np.mean([row["level"] for row in rows_of("warm")])
    assert rows[1]["warm"] == f"{level:.3f}"
    assert main([*words, "--spread", "deviation", "--out", "t.md"]) == 0
    spread = np.std([row["level"] for row in rows_of("warm")])
    written = Path("t.md").read_text()
    assert f"| {level:.3f} ({spread:.3f}) |" in written and written == capsys.readouterr().out
    assert main([*words, "--format", "latex"]) == 0
    tabular = capsys.readouterr().out
    assert tabular.startswith("\\begin{tabular}{lrrrr}\n\\toprule\n") and " & warm \\\\\n" in tabular
    assert tabular.count("\\\\\n") == 4 and tabular.endswith("\\end{tabular}\n")
    assert main([*words[:-1], "nothing/*"]) == 2
    assert "no figure is named nothing/*" in capsys.readouterr().err


def test_latex_and_markdown_escape_their_signs():
    from empathy_lightning.evaluation.table_formats import latex, markdown

    assert "a\\_b \\& 50\\% & \\textbackslash{}x" in latex(["a_b & 50%", "\\x"], [])
    assert "| a\\|b |" in markdown(["a|b"], [])


def test_power_on_the_command_line(capsys):
    assert main(["evaluate", "power", "--effect", "0.5"]) == 0
    assert capsys.readouterr().out == "34\n"
    assert main(["evaluate", "power", "--effect", "0.5", "--power", "2"]) == 2


def test_replies_of_one_class_alone_can_be_compared(place, tmp_path, monkeypatch):
    """UA is the recall of that class then, and no figure breaks."""
    monkeypatch.chdir(tmp_path)
    for name, said in (("a", "sad"), ("b", "happy")):
        u = Utterance(id="0", corpus="c", path="a.wav", split="test", suite="s", emotion="sad", response=said)
        write_manifest(tmp_path / f"{name}.jsonl", [replace(u, id=str(i)) for i in range(6)])
        assert run(name, name, "answered_emotion") == 0
    row = compared("a", "b")["answered_emotion", "unweighted_accuracy", "a", "b"]
    assert (row["own"], row["other"], row["low"], row["high"]) == (1.0, 0.0, 1.0, 1.0)
