"""Utterances whose records lie in a file."""

import json
import multiprocessing
import os
import pickle
import tempfile
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import Manifest, manifest, read_manifest, write_manifest
from empathy_lightning.data import packed as packing
from empathy_lightning.data import rows as parquet
from empathy_lightning.data.packed import doubled, packed
from empathy_lightning.utterance import Utterance

BLOCK, MOST = 4, 50


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Small blocks, so that few records are several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "BLOCK", BLOCK)
        patch.setattr(manifest, "MOST", MOST)
        patch.setattr(parquet, "MOST", MOST)
        yield


texts = st.text(max_size=6) | st.just("caf\udce9")
"""Also with a byte of a file's name that is not UTF-8."""
numbers = st.none() | st.floats(0, 1)
records = st.builds(
    Utterance,
    id=texts,
    corpus=st.sampled_from("cd"),
    path=texts,
    start=st.floats(0, 9) | st.integers(0, 9),
    duration=numbers,
    transcript=st.none() | texts,
    speaker=st.none() | st.sampled_from("AB"),
    split=st.sampled_from(["train", "test", None]),
    arousal=numbers,
    response_cut=st.booleans(),
    units=st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=4),
    raw_labels=st.dictionaries(texts, texts, max_size=2),
    emotion_votes=st.sampled_from([{}, {"sad": 1.0}, {"sad": 1 / 3, "joyful": 2 / 3}]),
    references=st.lists(texts, max_size=2),
)


def rows(count, **values):
    return [Utterance(str(i), "c", f"{i}.wav", speaker=str(i % 7), **values) for i in range(count)]


@given(st.lists(records, max_size=9), st.randoms())
def test_every_record_comes_out_as_it_went_in(given_, random):
    found = packed(iter(given_))
    assert list(found) == given_ == [found[i] for i in range(len(given_))] and found == given_
    assert packed(found) is found
    names = random.sample([field.name for field in fields(Utterance)], 3)
    assert list(found.each(*names)) == [tuple(getattr(u, name) for name in names) for u in given_]
    order = random.sample(range(len(given_)), len(given_))
    assert list(found.take(order)) == [given_[i] for i in order]
    assert list(found.where("split", "train")[::2]) == [u for u in given_ if u.split == "train"][::2]
    assert pickle.loads(pickle.dumps(found)) == found
    assert packed([]) == [] and not packed([])


def test_a_record_may_be_changed_and_the_others_stay():
    found = packed(rows(3, raw_labels={"a": "b"}))
    first = found[0]
    first.emotion, first.raw_labels["a"] = "sad", "c"
    assert found == rows(3, raw_labels={"a": "b"})


def test_blocks_are_joined_and_another_process_reads_them():
    whole = rows(2 * BLOCK + 5)
    found = packed(whole)
    assert len(found) == len(whole) and found[BLOCK] == whole[BLOCK] and found[-1] == whole[-1]
    odd = found.take(np.arange(len(whole)) % 2 == 1)
    assert list(odd) == whole[1::2]
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.map(odd.__getitem__, [0, BLOCK]) == [whole[1], whole[2 * BLOCK + 1]]


def test_what_is_held_of_an_utterance_is_its_place(monkeypatch):
    """Counted by Arrow and Python: four bytes, whatever its texts are."""
    import pyarrow

    monkeypatch.setattr(packing, "BLOCK", 1_000)
    before = pyarrow.total_allocated_bytes()
    found = packed(replace(u, transcript=f"{u.id} was said " * 50) for u in rows(3_000))
    assert pyarrow.total_allocated_bytes() - before < 1_000
    held = sum(value.nbytes for value in vars(found).values() if isinstance(value, np.ndarray))
    assert held == 4 * len(found)


def test_second_ones_are_found_whatever_lies_between():
    whole = rows(BLOCK + 3)
    whole[BLOCK + 1] = replace(whole[2], path="else.wav")
    whole[BLOCK + 2] = replace(whole[2], corpus="d")
    assert doubled(packed(whole)) == doubled(whole) == [(BLOCK + 1, 2)]


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_what_is_wrong_far_down_a_manifest_is_named(tmp_path, name):
    whole = rows(2 * MOST + 10)
    write_manifest(tmp_path / name, whole)
    assert Manifest(str(tmp_path / name)).utterances() == read_manifest(tmp_path / name)
    second = replace(whole[3], path="again.wav")
    if name == "m.jsonl":
        with (tmp_path / name).open("a") as lines:
            lines.write("\n" + json.dumps(second.to_dict()) + "\n")
    else:
        import pyarrow.parquet

        from empathy_lightning.data.rows import to_table

        pyarrow.parquet.write_table(to_table([*whole, second]), tmp_path / name)
    place = "line 112: .* in line 4" if name == "m.jsonl" else "row 111: .* in row 4"
    for read in (read_manifest, lambda path: Manifest(str(path)).utterances()):
        with pytest.raises(CorpusError, match=place):
            read(tmp_path / name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_folder_for_temporary_files_is_one_line(tmp_path, monkeypatch, capsys):
    write_manifest(tmp_path / "m.jsonl", rows(2 * BLOCK))
    monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, "/dev/full", "r+b"))
    assert main(["corpora", "check", "manifest", str(tmp_path / "m.jsonl")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line and "TMPDIR" in line
