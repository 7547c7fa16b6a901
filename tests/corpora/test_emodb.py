import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.audio import read
from empathy_lightning.corpora.emodb import EmoDB
from tests.corpora import emodb


@pytest.mark.parametrize("wav", ["wav", "wav_corpus", "anything"])
def test_every_file_becomes_one_utterance(tmp_path, wav):
    corpus = EmoDB(str(emodb.write(tmp_path, wav)))
    found = {utterance.id: utterance for utterance in corpus.utterances()}
    assert {name[5]: u.emotion for name, u in found.items() if u.emotion} == EmoDB.emotions
    assert found["08a04Lb"].transcript == "Heute abend könnte ich es ihm sagen."
    assert found["16b02Tb"].speaker == "16"
    assert all(read(u.path).shape == (1600,) for u in found.values())


def test_the_listening_test_is_read(tmp_path):
    found = {utterance.id: utterance for utterance in EmoDB(str(emodb.write(tmp_path))).utterances()}
    assert found["03a02Wc"].raw_labels == {"emotion": "W", "recognised": "85,00", "natural": "10,00"}
    assert found["03a01Xa"].raw_labels == {"emotion": "X"}


def test_it_is_not_needed(tmp_path):
    assert len(EmoDB(str(emodb.write(tmp_path) / "wav")).utterances()) == len(emodb.NAMES) + 1


def test_what_is_odd_is_reported(tmp_path):
    corpus = EmoDB(str(emodb.write(tmp_path)))
    corpus.utterances()
    reasons = {path.split("/")[-1]: reason for path, reason, _ in corpus.skipped}
    assert set(reasons) == {"notes.wav", "03a01Xa.wav", "erkennung.txt"}
    assert "'X'" in reasons["03a01Xa.wav"] and "no result" in reasons["erkennung.txt"]


@given(
    speaker=st.sampled_from(["03", "08", "16"]),
    sentence=st.sampled_from(sorted(EmoDB.sentences)),
    letter=st.sampled_from(sorted(EmoDB.emotions)),
    version=st.sampled_from("abcdef"),
)
def test_names_say_speaker_text_and_emotion(tmp_path_factory, speaker, sentence, letter, version):
    root = tmp_path_factory.mktemp("emodb")
    (root / f"{speaker}{sentence}{letter}{version}.WAV").write_bytes(b"RIFF")
    (utterance,) = EmoDB(str(root)).utterances()
    assert (utterance.speaker, utterance.transcript, utterance.emotion) == (
        speaker, EmoDB.sentences[sentence], EmoDB.emotions[letter],
    )  # fmt: skip
