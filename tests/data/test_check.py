import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import CORPORA, RAVDESS
from empathy_lightning.data import read_manifest
from empathy_lightning.data.check import check
from empathy_lightning.data.protocols import Protocol
from tests.corpora import ravdess, savee
from tests.corpora.noise import noise


@pytest.fixture
def root(tmp_path):
    """All 24 actors with both statements and repetitions would be slow to write; the counts are wrong on purpose."""
    return ravdess.write(tmp_path / "ravdess", actors=4)


def test_what_is_wrong_is_named(root):
    folder = root / "Audio_Speech_Actors_01-24" / "Actor_02"
    (folder / "03-01-03-01-01-01-02.wav").write_bytes(b"RIFF of nothing")
    soundfile.write(folder / "03-01-04-01-01-01-02.wav", np.zeros(8_000), 48_000)
    shutil.copy(folder / "03-01-05-01-01-01-02.wav", folder / "03-01-06-01-01-01-02.wav")
    shutil.copytree(folder, root / "Audio_Speech_Actors_01-24" / "again" / "Actor_02")
    (folder / "03-01-07-01-01-01-02.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    problems = " | ".join(check(RAVDESS(str(root)))["problems"])
    for words in ("96 neutral published, 4 found", "unreadable", "silent", "byte-identical", "doubled copy", "Git LFS"):
        assert words in problems


def test_speakers_in_two_splits_are_found(root):
    class Leaking(Protocol):
        def splits(self, utterances):
            return ["train" if index % 2 else "test" for index in range(len(utterances))]

    assert any("speaker ravdess 01 is in test and train" in p for p in check(RAVDESS(str(root)), Leaking())["problems"])
    assert not any(p.startswith("speaker") for p in check(RAVDESS(str(root)))["problems"])


def test_from_the_command_line(root, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert main(["corpora", "check", "ravdess", str(root), "--out", str(report)]) == 1
    assert "emotion happy" in capsys.readouterr().out
    assert json.loads(report.read_text())["utterances"] == 60
    manifest = tmp_path / "manifest.jsonl"
    words = ["corpora", "export", "ravdess", str(root), "--out", str(manifest), "--protocol", "leave-one-speaker-out"]
    assert main(words) == 0
    rows = read_manifest(manifest)
    assert len(rows) == 60 and {u.speaker for u in rows if u.split == "test"} == {"01"}
    assert main(["corpora", "list"]) == 0
    assert "msp_podcast" in capsys.readouterr().out
    assert main(["corpora", "check", "nothing", str(root)]) == 2
    assert main(["corpora", "check", "esd", str(root / "no")]) == 2
    assert "looked for" in capsys.readouterr().err


def test_several_corpora_become_one_manifest(root, tmp_path, capsys):
    other = savee.write(tmp_path / "savee")
    out = tmp_path / "both.jsonl"
    words = ["corpora", "export", "ravdess", str(root), "savee", str(other), "--out", str(out)]
    assert main([*words, "--allow_left_out=1"]) == 0
    rows = read_manifest(out)
    alone = [*RAVDESS(str(root)).utterances(), *CORPORA["savee"](str(other)).utterances()]
    readable = [u for u in alone if Path(u.path).is_file()]
    assert [(u.corpus, u.id) for u in rows] == [(u.corpus, u.id) for u in readable]
    assert {u.corpus for u in rows} == {"ravdess", "savee"} and all(Path(u.path).is_file() for u in rows)
    assert main([*words, "--allow_left_out=1"]) == 0
    assert "is there already, made from the same" in capsys.readouterr().out
    assert main([*words[:5], "--out", str(out)]) == 2
    assert "savee has no folder" in capsys.readouterr().err.splitlines()[-1]
    assert main([*words[:4], "--out", str(out)]) == 2
    assert "(corpora, utterances changed)" in capsys.readouterr().err.splitlines()[-1]


def test_voices_and_replies_are_listened_to_and_the_report_says_of_what(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise(tmp_path / "words.wav", seconds=1.0)
    noise(tmp_path / "voice.wav", seconds=2.0)
    row = {"id": "1", "corpus": "c", "path": "words.wav", "emotion_path": "voice.wav", "emotion_end": 60.0}
    digests = []
    for name, more in (("first", {"response_path": "gone.wav"}), ("second", {"emotion_end": 2.0})):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row | more) + "\n")
        assert main(["corpora", "check", "manifest", f"{name}.jsonl"]) == (1 if name == "first" else 0)
        assert f"report: outputs/corpora/{name}.json" in capsys.readouterr().out
        report = json.loads((tmp_path / "outputs" / "corpora" / f"{name}.json").read_text())
        assert report["manifest"] == f"{name}.jsonl" and report["hours"] == round(1 / 3600, 4)
        digests.append(report["digest"])
        if name == "first":
            problems = " | ".join(report["problems"])
            assert "gone.wav: unreadable" in problems
            assert "voice.wav): a segment from 0.00 to 60.00 s of a file of 2.00 s" in problems
    assert digests == [hashlib.sha256((tmp_path / f"{n}.jsonl").read_bytes()).hexdigest() for n in ("first", "second")]
