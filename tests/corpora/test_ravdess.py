from collections import Counter

import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import RAVDESS, CorpusError
from tests.corpora import ravdess


@pytest.fixture
def root(tmp_path):
    return ravdess.write(tmp_path)


def test_every_speech_file_becomes_one_utterance(root):
    utterances = RAVDESS(str(root)).utterances()
    assert len(utterances) == 6 * 15
    assert Counter(u.emotion for u in utterances)["neutral"] == 6
    assert {u.emotion for u in utterances} == set(RAVDESS.emotions.values())
    assert all(read(u.path).ndim == 1 for u in utterances[:5])
    assert [u.id for u in RAVDESS(str(root / "Audio_Speech_Actors_01-24")).utterances()] == [u.id for u in utterances]


def test_no_speaker_is_in_two_splits_and_each_is_tested_once(root):
    tested = []
    for rotation in range(3):
        speakers = {}
        for utterance in RAVDESS(str(root), rotation).utterances():
            assert speakers.setdefault(utterance.speaker, utterance.split) == utterance.split
        assert Counter(speakers.values()) == {"train": 2, "validation": 2, "test": 2}
        tested += [speaker for speaker, split in speakers.items() if split == "test"]
    assert len(tested) == len(set(tested)) == 6


def test_a_missing_corpus_says_where_to_get_it(tmp_path):
    with pytest.raises(CorpusError, match="zenodo") as error:
        RAVDESS(str(tmp_path / "nothing")).utterances()
    assert "Audio_Speech_Actors_01-24" in str(error.value)
    with pytest.raises(CorpusError, match="no utterance of ravdess"):
        RAVDESS(str(tmp_path)).utterances()


def test_the_real_recordings(speech_folder):
    utterances = RAVDESS(str(speech_folder / "ravdess")).utterances()
    assert len(utterances) == 960
    counts = Counter(u.emotion for u in utterances)
    assert counts.pop("neutral") == 64 and set(counts.values()) == {128}
    assert len({u.speaker for u in utterances}) == 16
    assert Counter(u.split for u in utterances) == {"train": 720, "validation": 120, "test": 120}
