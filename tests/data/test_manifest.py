import pytest

from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import Manifest, Selection, read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.utterance import Utterance


def test_it_survives_moving_the_folder(tmp_path):
    inside = Utterance("1", "c", str(tmp_path / "a" / "audio" / "1.wav"), transcript="été")
    outside = Utterance("2", "c", "/elsewhere/2.wav", response_path=str(tmp_path / "a" / "r.wav"))
    write_manifest(tmp_path / "a" / "m.jsonl", [inside, outside])
    (tmp_path / "a").rename(tmp_path / "b")
    first, second = Manifest(str(tmp_path / "b" / "m.jsonl")).utterances()
    assert first.path == str(tmp_path / "b" / "audio" / "1.wav") and first.transcript == "été"
    assert second.path == "/elsewhere/2.wav" and second.response_path == str(tmp_path / "b" / "r.wav")
    assert not list((tmp_path / "b").glob(".*"))


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"id": "1", "corpus": "c", "path": "a.wav"}\n{"id": "2"}\n')
    with pytest.raises(CorpusError, match="line 2"):
        read_manifest(path)
    path.write_text("not json\n")
    with pytest.raises(CorpusError, match="line 1"):
        read_manifest(path)
    with pytest.raises(CorpusError, match="no manifest"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_selection_keeps_what_was_asked_for(corpus):
    whole = Manifest(str(corpus))
    kept = Selection(whole, emotions=["sad", "happy"], speakers=["1", "2"]).utterances()
    assert kept == [u for u in whole.utterances() if u.emotion in ("sad", "happy") and u.speaker in ("1", "2")]
    assert kept and kept == Selection(whole, emotions=["Sadness", "joy"], speakers=["1", "2"]).utterances()
    with pytest.raises(CorpusError, match="no utterance has the language 'xx'; there are none at all"):
        Selection(whole, languages=["xx"]).utterances()
    assert Selection(whole).utterances() == whole.utterances()


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
def test_a_pair_and_a_cut_response_survive(tmp_path, name):
    plain = Utterance("1", "c", str(tmp_path / "1.wav"))
    paired = Utterance(
        "2", "c", str(tmp_path / "2.wav"), emotion="sad", response="oh", response_cut=True, emotion_id="ser/7",
        emotion_path=str(tmp_path / "ser" / "7.wav"), emotion_start=1.5, emotion_end=2.5,
    )  # fmt: skip
    write_manifest(tmp_path / name, [plain, paired])
    assert read_manifest(tmp_path / name) == [plain, paired]
    (tmp_path / "b").mkdir()
    (tmp_path / name).rename(tmp_path / "b" / name)
    assert read_manifest(tmp_path / "b" / name)[1].emotion_path == str(tmp_path / "b" / "ser" / "7.wav")


@pytest.mark.parametrize(("name", "letter"), [("m.jsonl", "\ud800"), ("m.parquet", "\ud800"), ("m.parquet", "\udcfc")])
def test_text_that_is_not_utf_8_is_one_line_and_nothing_stays(tmp_path, name, letter):
    with pytest.raises(InputError, match=f"{name}.* (half a character|cannot be written: 'utf-8' codec)"):
        write_manifest(
            tmp_path / name, [Utterance("1", "c", "/1.wav"), Utterance("2", "c", "/2.wav", transcript=letter)]
        )
    assert not list(tmp_path.iterdir())
    # Latin-1 bytes, as a manifest of lines was read with, are written back.
    latin = Utterance("1", "c", "/1.wav", transcript="m\udcfcde")
    write_manifest(tmp_path / "m.jsonl", [latin])
    assert b"m\xfcde" in (tmp_path / "m.jsonl").read_bytes() and read_manifest(tmp_path / "m.jsonl") == [latin]
