from collections import Counter

import pytest

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.corpora.nemo import NEMO
from tests.corpora import nemo


def test_every_row_with_audio_becomes_one_utterance(tmp_path):
    corpus = NEMO(str(nemo.write(tmp_path)))
    found = {utterance.id: utterance for utterance in corpus.utterances()}
    assert len(found) == 2 * 6 + 1
    angry = found["WR0_anger_1"]
    assert (angry.emotion, angry.speaker, angry.transcript) == ("angry", "WR0", '"To" jest źle.')
    assert angry.raw_labels == {"emotion": "anger", "gender": "male", "age": "23"}
    assert read(angry.path).shape == (1600,)
    assert found["MK0_bored_64"].emotion is None
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert set(reasons) == {"MK0_bored_64.wav", "MK0_anger_64", "MK0_fear_1.wav", "data.tsv"}


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"no data\.tsv"):
        NEMO(str(tmp_path)).utterances()


def test_the_real_recordings(speech_folder):
    corpus = NEMO(str(speech_folder / "nemo"))
    utterances = corpus.utterances()
    assert Counter(u.emotion for u in utterances) == {
        "angry": 72, "fearful": 72, "happy": 72, "neutral": 71, "sad": 72, "surprised": 60,
    }  # fmt: skip
    assert {u.speaker for u in utterances} == {"EB0", "KD0", "KS0", "MK0", "TP0", "WR0"}
    assert all(u.transcript and u.transcript == u.transcript.strip() for u in utterances)
    assert not corpus.skipped and read(utterances[0].path).ndim == 1
