"""Units of the replies: of the user's own recordings as they are, of this manifest, by this quantizer."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.checkpoints import load_quantizer, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.mel_quantizer import MelQuantizer
from empathy_lightning.preparation import unit_shards, units


@pytest.fixture
def spoken(corpus, tmp_path):
    """A manifest of 12 utterances whose replies are recordings of their own, in emotions that no style has."""
    chosen = [u for u in read_manifest(corpus) if int(u.id) < 8 or u.split == "test"][:12]
    rows = [replace(u, emotion="fearful", units=None) for u in chosen]
    for row in rows:
        row.response_path = shutil.copyfile(row.path, str(tmp_path / f"reply_{row.id}.wav"))
    write_manifest(tmp_path / "spoken.jsonl", rows)
    save(tmp_path / "quantizer", quantizer(0))
    return tmp_path / "spoken.jsonl"


def quantizer(seed):
    """A codebook of drawn centres."""
    drawn = MelQuantizer(16)
    torch.nn.init.normal_(drawn.codebook, generator=torch.Generator().manual_seed(seed))
    return drawn


def command(manifest, *more, out="units.jsonl"):
    home = Path(manifest).parent
    files = ("--out", str(home / out), "--quantizer", str(home / "quantizer"))
    return main(["prepare", "units", str(manifest), *files, *map(str, more)])


def error_of(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_own_recordings_are_used_as_they_are(spoken, capsys):
    before = {path: path.read_bytes() for path in spoken.parent.glob("*.wav")}
    assert command(spoken) == 0
    rows, found = read_manifest(spoken.parent / "units.jsonl"), load_quantizer(str(spoken.parent / "quantizer"))
    assert [u.id for u in rows] == [u.id for u in read_manifest(spoken)]
    for row in rows:
        assert row.response_path == str(spoken.parent / f"reply_{row.id}.wav") and row.emotion == "fearful"
        assert row.units == found.encode(read(row.response_path)).tolist()
    assert before == {path: path.read_bytes() for path in spoken.parent.rglob("*.wav")}


def test_replies_without_a_recording_among_others_are_left_out_and_counted(spoken, capsys):
    rows = read_manifest(spoken)
    rows[1].response_path = None
    write_manifest(spoken, rows)
    assert command(spoken) == 2
    assert "1 of 12 utterances would be lost: 1 replies without a recording" in error_of(capsys)
    assert command(spoken, "--allow_left_out=0.1") == 0
    assert "left out: 1 of 12 replies" in capsys.readouterr().out
    assert [u.id for u in read_manifest(spoken.parent / "units.jsonl")] == [u.id for u in rows if u is not rows[1]]


def test_replies_without_any_recording_are_one_line(spoken, capsys):
    write_manifest(spoken, [replace(u, response_path=None) for u in read_manifest(spoken)])
    assert command(spoken) == 2
    assert "(response_path): make them with `prepare speech`" in error_of(capsys)
    assert {path.name for path in spoken.parent.iterdir()} >= {"spoken.jsonl"}
    assert not (spoken.parent / "units.jsonl").exists()


def test_another_manifest_in_the_same_folder_gets_its_own_units(spoken, capsys):
    assert command(spoken) == 0
    rows = read_manifest(spoken)[::-1]
    for row in rows:
        row.response = f"Other words than before, {row.id}."
    write_manifest(spoken.parent / "other.jsonl", rows)
    first = (spoken.parent / "units.jsonl").read_bytes()
    assert command(spoken.parent / "other.jsonl") == 2
    assert "(manifest, " in error_of(capsys) and (spoken.parent / "units.jsonl").read_bytes() == first
    assert command(spoken.parent / "other.jsonl", out="second.jsonl") == 0
    said = {u.id: u.response for u in rows}
    assert {u.id: u.response for u in read_manifest(spoken.parent / "second.jsonl")} == said
    assert command(spoken.parent / "other.jsonl", "--again") == 0
    assert {u.id: u.response for u in read_manifest(spoken.parent / "units.jsonl")} == said


def test_the_same_is_kept_and_anything_else_is_refused(spoken, monkeypatch, capsys):
    assert command(spoken) == 0
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(units, "load_quantizer", lambda *_: pytest.fail("made again"))
        assert command(spoken) == 0
    assert "units.jsonl is there already, made from the same" in capsys.readouterr().out
    assert command(spoken, "--train", 3) == 2
    assert "(train, " in error_of(capsys)
    reply = Path(read_manifest(spoken)[0].response_path)
    heard = reply.read_bytes()
    write(reply, torch.linspace(-0.5, 0.5, 16_000).sin())
    assert command(spoken) == 2
    assert "(replies changed)" in error_of(capsys)
    reply.unlink()
    reply.write_bytes(heard)
    save(spoken.parent / "quantizer", quantizer(1))
    assert command(spoken) == 2
    assert "quantizer" in error_of(capsys)
    shutil.rmtree(spoken.parent / "quantizer")
    assert command(spoken) == 2
    assert "make one with `prepare quantizer`" in error_of(capsys)


def test_stopped_anywhere_it_ends_with_the_same_files(spoken, monkeypatch, tmp_path):
    assert command(spoken) == 0
    made = spoken.parent / "units.jsonl"
    whole = made.read_bytes()
    for module, stopped in ((units, "load_quantizer"), (unit_shards, "write_manifest")):
        for name in ("units.jsonl", "units.jsonl.made_from.json"):
            (spoken.parent / name).unlink(missing_ok=True)
        shutil.rmtree(spoken.parent / "units.jsonl.shards", ignore_errors=True)
        with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
            patched.setattr(module, stopped, lambda *_: 1 / 0)
            command(spoken)
        assert not (spoken.parent / "units.jsonl").exists()
        assert command(spoken) == 0
        assert made.read_bytes() == whole
