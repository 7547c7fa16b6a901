from collections import Counter

import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.cremad import CREMAD
from tests.corpora import cremad


@pytest.fixture
def corpus(tmp_path):
    return CREMAD(str(cremad.write(tmp_path)))


@pytest.fixture
def found(corpus):
    return {utterance.id: utterance for utterance in corpus.utterances()}


def test_every_name_becomes_one_utterance(found):
    assert len(found) == 10 + 4 + 1
    assert Counter(u.emotion for u in found.values()) == {
        "angry": 2, "disgust": 2, "fearful": 2, "happy": 2, "neutral": 2, "sad": 4, None: 1,
    }  # fmt: skip
    jacket = found["1091_DFA_HAP_XX"]
    assert (jacket.speaker, jacket.transcript, jacket.language) == ("1091", "Don't forget a jacket.", "en")
    assert read(jacket.path).shape == (1600,)
    assert found["1040_ITH_SAD_XX"].raw_labels == {"emotion": "SAD", "level": "X"}


def test_votes_are_kept(found):
    assert found["1001_IEO_SAD_LO"].raw_labels == {
        "emotion": "SAD", "level": "LO", "VoiceVote": "N:S", "VoiceLevel": "55:61.5", "FaceVote": "S",
        "FaceLevel": "70", "MultiModalVote": "S", "MultiModalLevel": "66.1",
    }  # fmt: skip


def test_shares_are_those_of_listeners(found):
    assert found["1001_IEO_SAD_LO"].emotion_votes == {"fearful": 0.1, "neutral": 0.4, "sad": 0.5}
    assert found["1091_DFA_HAP_XX"].emotion_votes == {}


def test_what_is_odd_is_reported(corpus, found):
    assert found["1001_IEO_BOR_LO"].raw_labels["emotion"] == "BOR"
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert set(reasons) == {"1002_DFA_ANG_XX.wav", "1001_IEO_BOR_LO.wav", "README.wav", "1076_MTI_SAD_XX.wav"}
    assert "git lfs pull" in reasons["1002_DFA_ANG_XX.wav"]
    assert reasons["1076_MTI_SAD_XX.wav"] == "holds no sound"


def test_a_checkout_of_pointers_says_what_to_do(tmp_path):
    root = cremad.write(tmp_path, pulled=False)
    (root / "CREMA-D" / "AudioWAV" / "1001_IEO_BOR_LO.wav").unlink()
    with pytest.raises(CorpusError, match="git lfs pull"):
        CREMAD(str(root)).utterances()


def test_the_real_recordings(speech_folder):
    utterances = CREMAD(str(speech_folder / "cremad")).utterances()
    assert Counter(u.emotion for u in utterances) == {
        "angry": 2, "disgust": 3, "fearful": 2, "happy": 3, "neutral": 2, "sad": 3,
    }  # fmt: skip
    assert {u.speaker for u in utterances} == {"1001", "1002", "1020", "1030", "1052"}
    assert all(u.transcript and len(read(u.path)) > 16_000 for u in utterances)
