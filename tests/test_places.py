"""Places to write are tried before anything is read, listened to, answered, trained or converted."""

import resource
from pathlib import Path

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_new_folder, check_target
from empathy_lightning.tasks.export import Export

RELEASES = ("freezeempath", "blsp_emo", "re_llm", "audeering", "epitome")
ANSWERS = ["--language_model", "./no-model"]
FILES = {
    "prepare responses": ["prepare", "responses", "none.jsonl", *ANSWERS],
    "prepare pseudo_dialogues": ["prepare", "pseudo_dialogues", "none.jsonl", "--recordings", "none.jsonl", *ANSWERS],
    "prepare ratings": ["prepare", "ratings", "none.jsonl", "--emotion_encoder", "./no-model"],
    "prepare transcripts": ["prepare", "transcripts", "none.jsonl", "--asr", "./no-model"],
    "prepare speech": ["prepare", "speech", "none.jsonl"],
    "prepare units": ["prepare", "units", "none.jsonl", "--quantizer", "quantizer"],
    "corpora check": ["corpora", "check", "ravdess", "no-corpus"],
    "corpora export": ["corpora", "export", "ravdess", "no-corpus"],
    "respond": ["respond", "none.jsonl", "--checkpoint", "no-model"],
    "evaluate emotion": ["evaluate", "emotion", "--manifest", "none.jsonl", "--checkpoint", "no-model"],
}
"""Commands that write a file; what each would read is not there, so a complaint about that comes too late."""
FOLDERS = {
    "prepare quantizer": ["prepare", "quantizer", "none.jsonl", "--encoder", "./no-model", "--layer", "1"],
    "demo corpus": ["demo", "corpus"],
    "corpora export": ["corpora", "export", "ravdess", "no-corpus", "--shards"],
    "evaluate run": ["evaluate", "run", "--replies", "none.jsonl"],
    "demo evaluate": ["demo", "evaluate", "--manifest", "none.jsonl", "--checkpoint", "no-model"],
    "chat": ["chat", "none.wav", "--checkpoint", "."],
    "ablate": ["ablate", "none.yaml"],
    **{f"convert {name}": ["convert", name, "no-release"] for name in RELEASES},
}
ALL = {**FILES, **{f"{name}, a folder": words for name, words in FOLDERS.items()}}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")


def refusal(capsys, words, out, option="--out"):
    there = sorted(Path().rglob("*"))
    assert main([*words, option, out]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and len(error) <= 300 and sorted(Path().rglob("*")) == there
    return error


@pytest.mark.parametrize("words", ALL.values(), ids=ALL)
def test_below_a_file(capsys, words):
    assert "file is a file" in refusal(capsys, words, "file/out")


@pytest.mark.parametrize("words", ALL.values(), ids=ALL)
def test_on_a_full_disk(capsys, words):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        error = refusal(capsys, words, "new/out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "nothing can be written to" in error


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make a file")
@pytest.mark.parametrize("words", ALL.values(), ids=ALL)
def test_where_nobody_may_write_not_even_root(capsys, words):
    assert "nothing can be written to /proc/self" in refusal(capsys, words, "/proc/self/out")


@pytest.mark.parametrize("words", ALL.values(), ids=ALL)
def test_under_a_name_that_is_too_long(capsys, words):
    assert "File name too long" in refusal(capsys, words, f"new/{'x' * 300}")


@pytest.mark.parametrize("name", ["prepare responses", "prepare speech", "respond"])
def test_with_no_room_for_the_name_of_the_claim(capsys, name):
    assert "File name too long" in refusal(capsys, FILES[name], "x" * 245)


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
def test_a_folder_or_a_device_in_the_place_of_a_file(capsys, words):
    Path("folder").mkdir()
    assert "folder is a folder" in refusal(capsys, words, "folder")
    assert "no plain file" in refusal(capsys, words, "/dev/null")


READ_FIRST = (
    "prepare responses", "prepare pseudo_dialogues", "prepare ratings", "prepare transcripts", "prepare speech",
    "prepare units", "respond", "evaluate emotion",
)  # fmt: skip


@pytest.mark.parametrize("name", READ_FIRST)
def test_what_is_read_is_not_written_over(capsys, name):
    assert "which is read" in refusal(capsys, FILES[name], "./none.jsonl")


def test_the_report_page_too(capsys):
    words = [*FILES["evaluate emotion"], "--out", "o.json"]
    assert "is a file" in refusal(capsys, words, "file/page.html", "--report")
    assert "which is read" in refusal(capsys, words, "o.json", "--report")


def test_a_training_s_folder_is_tried_before_it_starts():
    with pytest.raises(InputError, match="file is a file"):
        Export("file/out").on_fit_start(None, None)


def test_a_place_that_can_be_written_to_is_left_as_it_is():
    check_target(Path("a/b/out.json"), [Path("file"), None])
    check_target(Path("file"), [])
    check_target(Path("x" * 250), [])
    check_folder(Path("a/b"))
    check_new_folder(Path("a"))
    assert sorted(path.name for path in Path().iterdir()) == ["file"] and Path("file").read_text() == "mine"
    Path("a").mkdir()
    check_new_folder(Path("a"))
    Path("a/b").write_text("")
    with pytest.raises(InputError, match="a is there already"):
        check_new_folder(Path("a"))
