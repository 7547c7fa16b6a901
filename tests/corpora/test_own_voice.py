from empathy_lightning.corpora.own_voice import OwnVoice
from tests.corpora.noise import noise


def test_words_beside_the_recordings_and_in_a_table_are_replies_and_none_is_lost(tmp_path):
    for name in ("a/one", "b/two", "LJ001-0001", "LJ001-0002"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise(tmp_path / f"{name}.wav")
    (tmp_path / "a/one.txt").write_text("I am one.\n")
    (tmp_path / "metadata.csv").write_text("LJ001-0001|In 1455 it was|In fourteen fifty-five it was\nLJ001-0002|So|\n")
    corpus = OwnVoice(str(tmp_path))
    found = {u.id: u for u in corpus.utterances()}
    words = {name: u.response for name, u in found.items()}
    assert words == {
        "a/one": "I am one.", "b/two": None, "LJ001-0001": "In fourteen fifty-five it was", "LJ001-0002": "So",
    }  # fmt: skip
    assert all(u.response_path == (u.path if u.response else None) and u.split for u in found.values())
    assert [skipped.path.endswith("two.wav") for skipped in corpus.skipped] == [True]


def test_splits_depend_on_the_name_alone_and_most_recordings_train(tmp_path):
    for number in range(200):
        (tmp_path / f"{number}.wav").touch()
    first = {u.id: u.split for u in OwnVoice(str(tmp_path)).read(tmp_path)}
    again = {u.id: u.split for u in OwnVoice(str(tmp_path)).read(tmp_path)}
    counts = [list(first.values()).count(split) for split in ("train", "validation", "test")]
    assert first == again and counts[0] > 160 and min(counts[1:]) > 2
