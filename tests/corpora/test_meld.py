import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.meld import MELD, _seconds
from tests.corpora import meld


@pytest.fixture
def corpus(tmp_path):
    return MELD(str(meld.write(tmp_path)))


@pytest.fixture
def found(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances()}


def test_every_row_with_audio_becomes_one_utterance(found):
    train = [f"train_dia0_utt{index}" for index in range(7)]
    assert sorted(found) == sorted([*train, "dev_dia0_utt0", "test_dia0_utt0", "test_dia0_utt1"])
    assert [found[key].emotion for key in train] == list(MELD.emotions.values())
    assert {key: u.split for key, u in found.items() if "utt0" in key} == {
        "train_dia0_utt0": "train", "dev_dia0_utt0": "validation", "test_dia0_utt0": "test",
    }  # fmt: skip
    assert all(read(u.path).shape == (1600,) for u in found.values())


def test_texts_of_all_encodings_are_the_same(found):
    assert {u.transcript for u in found.values()} == {"Well, it\u2019s late."}
    assert found["dev_dia0_utt0"].speaker == "The Interviewer"
    assert found["train_dia0_utt3"].raw_labels == {
        "emotion": "joy", "sentiment": "positive", "dialogue_id": "0", "utterance_id": "3",
    }  # fmt: skip


def test_of_two_clips_the_one_that_fits_its_row_is_taken(corpus, found):
    assert found["test_dia0_utt0"].path.endswith("final_videos_testdia0_utt0.wav")
    assert any(path.endswith("test/dia0_utt0.wav") and "doubled" in reason for path, reason, _ in corpus.skipped)


def test_what_is_odd_is_reported(corpus, found):
    assert found["test_dia0_utt1"].emotion is None and found["test_dia0_utt1"].raw_labels["emotion"] == "bliss"
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert reasons["dev_dia110_utt7"] == "a row without audio"
    assert reasons["dia99_utt0.wav"] == "no row in the CSV files"
    assert "ends early" in reasons["train_sent_emo.csv"]
    assert "bliss" in reasons["dia0_utt1.wav"]
    assert len(corpus.skipped) == 5


def test_videos_alone_are_not_enough(tmp_path):
    with pytest.raises(CorpusError, match="only a video"):
        MELD(str(meld.write(tmp_path, extracted=False))).utterances()


def test_the_times_in_the_series_give_the_lengths(found):
    assert {u.duration for u in found.values()} == {1.667}
    row = {"StartTime": "01:00:59.500", "EndTime": "01:01:02,000"}
    assert _seconds(row) == 2.5
    for wrong in ({}, {**row, "EndTime": "x"}, {**row, "EndTime": "00:00:01,000"}):
        assert _seconds(wrong) is None
