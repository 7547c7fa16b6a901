from empathy_lightning.corpora.librispeech import LibriSpeech
from tests.corpora import librispeech


def test_lines_and_files_are_joined_and_subsets_are_splits(tmp_path):
    corpus = LibriSpeech(str(librispeech.write(tmp_path)))
    found = {u.id: u for u in corpus.utterances()}
    assert len(found) == 8 and not corpus.skipped
    first = found["103-1240-0000"]
    assert (first.speaker, first.session, first.split) == ("103", "1240", "train")
    assert first.transcript == "IT'S A FAKE SENTENCE" and first.emotion is None and first.language == "en"
    assert found["84-1240-0001"].split == "validation" and found["367-1240-0001"].split == "test"
    one = LibriSpeech(str(tmp_path / "LibriSpeech" / "dev-clean")).utterances()
    assert {u.split for u in one} == {"validation"} and len(one) == 2


def test_lines_without_audio_and_audio_without_lines_are_reported(tmp_path):
    corpus = LibriSpeech(str(librispeech.write(tmp_path, odd=True)))
    assert len(corpus.utterances()) == 8
    reasons = " ".join(f"{path} {reason}" for path, reason, _ in corpus.skipped)
    assert "84-1240-0004 NO AUDIO" in reasons and "84-1240-0006.flac" in reasons
