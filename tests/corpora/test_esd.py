from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.audio import read
from empathy_lightning.corpora.esd import ESD, block_of
from tests.corpora import esd


@pytest.mark.parametrize(
    ("folder", "with_splits"),
    [("Emotion Speech Dataset", True), ("Emotional Speech Dataset (ESD)", False), ("ESD", True), ("speakers", False)],
)
def test_both_layouts_give_the_same(tmp_path, folder, with_splits):
    root = esd.write(tmp_path, folder, with_splits)
    utterances = ESD(str(root / folder if folder == "speakers" else root)).utterances()
    assert len(utterances) == 5 * 5 * 6
    assert set(Counter(u.emotion for u in utterances).values()) == {30}
    assert Counter(u.split for u in utterances) == {"train": 50, "validation": 50, "test": 50}
    assert Counter(u.language for u in utterances) == {"zh": 60, "en": 90}


@pytest.fixture
def corpus(tmp_path):
    return ESD(str(esd.write(tmp_path)))


def test_all_encodings_are_read(corpus):
    texts = {u.id: u.transcript for u in corpus.utterances()}
    assert texts["0001_000351"] == texts["0003_000351"] == "今天下雨。"
    assert texts["0011_000001"] == texts["0012_000001"] == texts["0016_000001"] == "The café, number 1."
    assert texts["0012_000020"] is None


def test_labels_and_audio(corpus):
    angry = next(u for u in corpus.utterances() if u.id == "0001_000370")
    assert (angry.emotion, angry.split, angry.speaker, angry.raw_labels) == (
        "angry", "validation", "0001", {"emotion": "生气", "sentence": "20"},
    )  # fmt: skip
    assert read(angry.path).shape == (1600,)


def test_what_is_odd_is_reported(corpus):
    assert next(u for u in corpus.utterances() if u.id == "0012_000021").emotion == "neutral"
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert set(reasons) == {"0011_001751.wav", "0012.txt", "0012_000020.wav", "0012_000021.wav", "0012_000002"}
    assert reasons["0012_000020.wav"].startswith("transcript only")
    assert "'Happy'" in reasons["0012_000021.wav"]


def test_a_text_file_in_no_known_encoding_costs_only_its_transcripts(corpus, tmp_path):
    (tmp_path / "Emotion Speech Dataset" / "0003" / "0003.txt").write_bytes(b"\xff\xfe\x00\xd8\x00")
    utterances = [u for u in corpus.utterances() if u.speaker == "0003"]
    assert len(utterances) == 30 and not any(u.transcript for u in utterances)
    assert any(path.endswith("0003.txt") for path, _, _ in corpus.skipped)


def test_a_language_can_be_chosen(tmp_path, corpus):
    english = ESD(corpus.root, ["en"])
    assert {u.speaker for u in english.utterances()} == {"0011", "0012", "0016"}
    assert not any("0001" in path or "0003" in path for path, _, _ in english.skipped)
    with pytest.raises(ValueError, match="not fr"):
        ESD(corpus.root, ["fr"])


@given(block=st.integers(0, 4), position=st.integers(1, 350))
def test_numbers_fall_into_blocks(block, position):
    emotion, split = block_of(350 * block + position)
    assert emotion == esd.FOLDERS[block]
    assert split == {"evaluation": "validation"}.get(esd.split(position), esd.split(position))


@given(st.integers().filter(lambda number: not 1 <= number <= 1750))
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match="outside"):
        block_of(number)
