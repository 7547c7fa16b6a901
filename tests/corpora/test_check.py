import json
import shutil

import numpy as np
import pytest
import soundfile

from empathy_lightning.__main__ import main
from empathy_lightning.corpora import RAVDESS, read_manifest
from empathy_lightning.corpora.check import check
from empathy_lightning.corpora.protocols import Protocol
from tests.corpora import ravdess


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
