"""One validator: what JSON lines refuse, Parquet and Python refuse too, with the same words."""

import json
import math
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.manifest import valid
from empathy_lightning.errors import InputError
from empathy_lightning.faults import Faults
from empathy_lightning.field_rules import FIELDS
from empathy_lightning.utterance import Utterance
from tests.corpora.noise import noise

VALID = {
    "id": "1", "corpus": "c", "path": "/a.wav", "start": 0.5, "end": 1.5, "duration": 1.0, "transcript": "oh",
    "language": "en", "speaker": "s", "session": "t", "split": "train", "emotion": "sad", "arousal": 0.5,
    "valence": 0.5, "dominance": 0.5, "emotion_id": "c/2", "emotion_path": "/b.wav", "emotion_start": 0.5,
    "emotion_end": 1.0, "prompt": "{speech}?", "system": "Be kind.", "response": "ah", "response_cut": True,
    "response_path": "/r.wav", "units": [1, 2], "raw_labels": {"emotion": "SAD"}, "emotion_votes": {"sad": 1.0},
    "suite": "s", "ability": "empathy/anger", "references": ["yes", "oui"],
}  # fmt: skip
ENCODED = ("raw_labels", "emotion_votes")

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
likely = st.sampled_from(
    [0, -1, 2, 1.5, "", "3", "Sadness", "dev", "TEST", "{speech}", [], [3], [-1], [2**31], [0.5], {}, {"a": "b"},
     {"a": 1}, {"sad": 0.5, "Sadness": 0.5}, {"sad": 0.4}, {"sad": math.nan}, {"": 1.0}, {"a": None}, "a\0b"]
)  # fmt: skip
values = likely | st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3), max_leaves=5
)


def outcome(path):
    """The records of a manifest, or what is said against it without the place."""
    try:
        return read_manifest(path), None
    except InputError as error:
        said = str(error)
        assert len(said) <= 300 and "\n" not in said
        assert said.startswith(str(path))
        return None, said.split(" 1: ", 1)[1] if " 1: " in said else said.removeprefix(str(path))


def as_parquet(record, path):
    columns = {}
    for name, value in record.items():
        stored = json.dumps(value) if name in ENCODED and value is not None else value
        columns[name] = pyarrow.array([stored])
        if json.dumps(columns[name].to_pylist()) != json.dumps([stored]):
            raise TypeError("Arrow makes another value of it")
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FIELDS), values)
@example("speaker", 3)
@example("end", math.nan)
@example("end", 0.25)
@example("split", "holdout")
@example("id", None)
@example("duration", "0.7")
@example("transcript", 3)
@example("arousal", True)
def test_any_value_comes_back_equal_or_is_refused_alike(tmp_path, name, value):
    record = VALID | {name: value}
    lines = tmp_path / "m.jsonl"
    lines.write_text(json.dumps(record) + "\n")
    read, refused = outcome(lines)
    try:
        as_parquet(record, tmp_path / "m.parquet")
    except (pyarrow.ArrowException, OverflowError, ValueError, TypeError):
        pass  # Arrow has no such column, for example of texts and numbers.
    else:
        assert outcome(tmp_path / "m.parquet") == (read, refused)
    if read is not None:
        for again in ("again.jsonl", "again.parquet"):
            write_manifest(tmp_path / again, read)
            assert plain(read_manifest(tmp_path / again)) == plain(read)


def plain(utterances):
    """Records with their paths as the system takes them: ``a/./b`` is ``a/b``."""
    for utterance in utterances:
        for name in ("path", "emotion_path", "response_path"):
            if getattr(utterance, name) is not None:
                setattr(utterance, name, str(Path(getattr(utterance, name))))
    return utterances


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"duration": "0.7"}, 'duration is "0.7", not a number'),
        ({"end": math.nan}, "end is NaN, not a finite number"),
        ({"end": math.inf}, "end is Infinity, not a finite number"),
        ({"start": 5.0, "end": 2.0}, "end 2 is not after start 5"),
        ({"emotion_start": 5.0, "emotion_end": 5.0}, "emotion_end 5 is not after emotion_start 5"),
        ({"start": -1}, "start is -1 s, below 0"),
        ({"arousal": 1.2}, "arousal is 1.2, outside 0..1"),
        ({"emotion_votes": {"sad": 3.0}}, 'emotion_votes hold "sad": 3.0, not a share'),
        ({"emotion_votes": {"sad": 0.25, "angry": 0.5}}, "emotion_votes sum to 0.75, not to 1"),
        ({"units": [1.5]}, "units are [1.5], not a list of whole numbers"),
        ({"speaker": 3.5}, "speaker is 3.5, not a text"),
        ({"transcript": 3}, "transcript is 3, not a text"),
        ({"response_cut": 1}, "response_cut is 1, not true or false"),
        ({"id": None}, "id is missing"),
        ({"path": ""}, "path is empty"),
        ({"speaker": ""}, "speaker is empty: leave it out"),
        ({"speeker": "1"}, 'unknown field "speeker"; did you mean speaker?'),
        ({"prompt": "hello"}, "prompt has no {speech} slot"),
        ({"prompt": None}, "system is given without a prompt"),
        ({"split": "holdout"}, 'split is "holdout": give train, validation, test'),
        ({"raw_labels": {"age": 23}}, 'raw_labels hold "age": 23, not a text'),
    ],
)
@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_what_is_wrong_is_said_with_file_row_and_field(tmp_path, name, values, said):
    path = tmp_path / name
    good, bad = VALID, VALID | {"id": "2"} | values
    if path.suffix == ".jsonl":
        path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    else:
        as_parquet_rows([good | dict.fromkeys(bad.keys() - good.keys()), bad], path)
    with pytest.raises(CorpusError) as error:
        read_manifest(path)
    where = "line" if path.suffix == ".jsonl" else "row"
    row = 1 if path.suffix == ".parquet" and "speeker" in values else 2
    assert str(error.value).startswith(f"{path}, {where} {row}: {said}")


def as_parquet_rows(records, path):
    columns = {}
    for name in records[0]:
        cells = [json.dumps(r[name]) if name in ENCODED else r[name] for r in records]
        if name in ("speaker", "transcript", "duration", "response_cut", "units", "start") and not same(cells):
            cells = [None, cells[1]]
        columns[name] = pyarrow.array(cells)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def same(cells):
    return type(cells[0]) is type(cells[1]) and not isinstance(cells[0], list)


def test_whole_numbers_name_a_speaker(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"id": 7, "corpus": "c", "path": "a.wav", "speaker": 3, "session": 1}\n')
    (utterance,) = read_manifest(tmp_path / "m.jsonl")
    assert (utterance.id, utterance.speaker, utterance.session) == ("7", "3", "1")
    columns = {"id": [7], "corpus": ["c"], "path": ["a.wav"], "speaker": [3], "session": [1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet") == [utterance]


def test_the_first_of_several_is_named_and_the_others_counted(tmp_path):
    rows = [VALID | {"id": str(index), "arousal": 0.5 if index < 3 else 2.0} for index in range(10)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    with pytest.raises(CorpusError, match=r"line 4: arousal is 2.0, outside 0..1 \(and 7 more\)$"):
        read_manifest(tmp_path / "m.jsonl")


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_a_doubled_id_is_refused_within_a_corpus_alone(tmp_path, name):
    rows = [{"id": "1", "corpus": corpus, "path": "a.wav"} for corpus in ("c", "d", "c")]
    if name == "m.jsonl":
        (tmp_path / name).write_text("\n\n".join(map(json.dumps, rows)) + "\n")
        places = "line 5: .*in line 1"
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
        places = "row 3: .*in row 1"
    with pytest.raises(CorpusError, match=places):
        read_manifest(tmp_path / name)


def test_byte_order_marks_blank_lines_and_other_line_ends_are_read(tmp_path):
    rows = [{"id": str(index), "corpus": "c", "path": "a.wav"} for index in range(3)]
    text = "\ufeff" + "\r\n\r\n".join(map(json.dumps, rows)) + "\r\n \r\n"
    (tmp_path / "m.jsonl").write_bytes(text.encode())
    assert [u.id for u in read_manifest(tmp_path / "m.jsonl")] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("spelt", "split"),
    [("dev", "validation"), ("valid", "validation"), ("VAL", "validation"), ("Train", "train"), ("eval", "test")],
)
def test_splits_and_emotions_are_read_in_other_spellings(tmp_path, spelt, split):
    record = {"id": "1", "corpus": "c", "path": "a.wav", "split": spelt, "emotion": "Happiness"}
    record["emotion_votes"] = {"Joy": 0.5, "Sadness": 0.25, "zeal": 0.25}
    (tmp_path / "m.jsonl").write_text(json.dumps(record))
    (utterance,) = read_manifest(tmp_path / "m.jsonl")
    assert (utterance.split, utterance.emotion) == (split, "happy")
    assert utterance.emotion_votes == {"happy": 0.5, "sad": 0.25, "zeal": 0.25}


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_python_records_are_checked_before_writing(tmp_path, name):
    good = Utterance("1", "c", "/a.wav")
    for bad in (Utterance("2", "c", "/a.wav", start=2.0, end=1.0), Utterance("2", "c", "/a", duration="1"), good):  # type: ignore[arg-type]
        with pytest.raises(InputError, match="record 2: "):
            write_manifest(tmp_path / name, [good, bad])
    assert not list(tmp_path.iterdir())
    write_manifest(tmp_path / name, [Utterance("2", "c", "/a.wav", speaker=3)])  # type: ignore[arg-type]
    assert read_manifest(tmp_path / name)[0].speaker == "3"


def test_a_message_stays_short_whatever_it_holds():
    faults = Faults()
    faults.add(3, "x" * 1000)
    faults.add(4, "y")
    said = faults.describe("/" + "long/" * 200 + "m.jsonl, line 3")
    assert len(said) == 300 and "m.jsonl, line 3: xxx" in said and said.endswith(" (and 1 more)")


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_votes_that_were_rounded_are_shares_again(tmp_path, name):
    """Three thirds and six sixths of two decimals, through the command, and from Python."""
    thirds = {"sad": 0.33, "happy": 0.33, "angry": 0.33}
    sixths = dict.fromkeys(("sad", "happy", "angry", "neutral", "fear", "disgust"), 0.17)
    noise(tmp_path / "a.wav")
    rows = [
        {"id": str(i), "corpus": "c", "path": "a.wav", "emotion_votes": votes}
        for i, votes in enumerate((thirds, sixths))
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["corpora", "export", "manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / name)]) == 0
    for found in (read_manifest(tmp_path / name), valid([Utterance(**row) for row in rows], "here")):
        assert [sorted(u.emotion_votes.values()) for u in found] == [
            pytest.approx([1 / 3] * 3, abs=1e-12),
            pytest.approx([1 / 6] * 6, abs=1e-12),
        ]
        assert valid(found, "here") == found


@pytest.mark.parametrize(
    ("references", "said"),
    [
        ("yes", 'references are "yes", not a list of texts'),
        (["yes", 3], 'references are ["yes", 3], not a list of texts'),
        (["\ud800"], "references hold half a character"),
    ],
)
def test_references_are_a_list_of_texts(tmp_path, references, said):
    file = tmp_path / "m.jsonl"
    file.write_text(json.dumps({"id": "1", "corpus": "c", "path": "a.wav", "references": references}))
    with pytest.raises(InputError, match=re.escape(said)):
        read_manifest(file)
