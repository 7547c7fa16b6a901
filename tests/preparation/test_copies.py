"""Copies in rooms and with noise: the same every time, of the training utterances alone."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.augmentation import in_room
from empathy_lightning.utterance import Utterance


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = []
    for number, split in enumerate(("train", "train", "test")):
        write(Path(f"{number}.wav"), torch.sin(torch.arange(8000) * (0.1 + 0.05 * number)) * 0.3, 16_000)
        rows.append(Utterance(f"{number}", "c", f"{number}.wav", split=split, transcript="Who?", duration=0.5))
    write_manifest("in.jsonl", rows)
    return "in.jsonl"


def copies(manifest, *more, out="out.jsonl"):
    return main(["prepare", "copies", manifest, "--out", out, *more])


def test_each_copy_is_its_original_changed(manifest):
    assert copies(manifest, "--count", "6") == 0
    rows = read_manifest("out.jsonl")
    assert [u.id for u in rows[:3]] == ["0", "1", "2"] and len(rows) == 3 + 2 * 6
    assert {u.id for u in rows[3:]} == {f"{number}~{copy}" for number in (0, 1) for copy in range(1, 7)}
    heard = [read(u.path) for u in rows]
    assert {len(waveform) for waveform in heard} == {8000}
    assert all(u.split == "train" and u.transcript == "Who?" for u in rows[3:])
    changed = sum(
        not torch.equal(waveform, heard[int(u.id[0])]) for u, waveform in zip(rows[3:], heard[3:], strict=True)
    )
    # Either change comes with a chance of 0.8.
    assert changed >= 9


def test_a_run_that_was_interrupted_ends_with_the_same_bytes(manifest, capsys):
    assert copies(manifest) == 0
    whole = {path.name: path.read_bytes() for path in Path("out.jsonl.speech/c").glob("*.wav")}
    kept, lost = sorted(Path("out.jsonl.speech/c").glob("*.wav"))
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert copies(manifest) == 0
    assert {path.name: path.read_bytes() for path in Path("out.jsonl.speech/c").glob("*.wav")} == whole
    assert kept.stat().st_mtime_ns == before
    assert copies(manifest, "--seed", "1") == 2
    assert "made from something else (seed changed)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--noise", "nan", "5"], "noise nan 5.0: give numbers, the lower one first"),
        (["--noise", "30", "5"], "noise 30.0 5.0: give numbers, the lower one first"),
        (["--rooms", "0", "0.5"], "rooms 0.0 0.5: give numbers above 0, the lower one first"),
        (["--noise_folder", "none"], "none: no WAV or FLAC file of noise"),
    ],
)
def test_what_would_spoil_the_copies_is_refused_before_anything_is_read(manifest, option, message, capsys):
    assert copies(manifest, *option) == 2
    assert capsys.readouterr().err == f"error: {message}\n" and not list(Path().glob("out.jsonl.speech/*/*.wav"))


def test_unreadable_recordings_are_counted_and_may_be_allowed(manifest, capsys):
    Path("1.wav").write_bytes(b"no sound at all")
    assert copies(manifest) == 2 and "1 of 2 utterances would be lost" in capsys.readouterr().err
    assert copies(manifest, "--allow_left_out", "0.5") == 0
    assert [u.id for u in read_manifest("out.jsonl")] == ["0", "1", "2", "0~1"]


@pytest.mark.parametrize("file", ["0.wav", "noise/hum.wav"])
def test_copies_of_other_recordings_or_other_noise_are_not_taken_for_these(file, manifest, capsys):
    write(Path("noise/hum.wav"), 0.1 * torch.randn(16_000), 16_000)
    assert copies(manifest, "--noise_folder", "noise") == 0
    write(Path(file), 0.2 * torch.randn(9_000), 16_000)
    assert copies(manifest, "--noise_folder", "noise") == 2
    assert "made from something else" in capsys.readouterr().err
    assert copies(manifest, "--noise_folder", "noise", "--again") == 0


def test_nothing_to_copy_is_told(manifest, capsys):
    write_manifest("tests.jsonl", [replace(u, split="test") for u in read_manifest(manifest)])
    assert copies("tests.jsonl") == 2
    assert "no training utterance to copy" in capsys.readouterr().err


def test_a_room_dies_away_by_60_decibels_and_keeps_the_loudness():
    click = torch.zeros(16_000)
    click[0] = 1.0
    heard = in_room(click, 0.5, 0.0)
    assert float(heard.square().sum()) == pytest.approx(1.0, rel=1e-4)
    level = [10 * math.log10(float(heard[start : start + 800].square().mean())) for start in (400, 4400)]
    # A quarter of a second, half of the reverberation time.
    assert level[0] - level[1] == pytest.approx(30, abs=2)
    # As much of the sound itself as of the room.
    assert float(heard[0].square()) == pytest.approx(0.5, abs=0.05)
    speech = torch.randn(8000)
    assert float(in_room(speech, 0.3, 10.0).norm()) == pytest.approx(float(speech.norm()), rel=1e-4)
