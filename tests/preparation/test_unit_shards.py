"""Units of many replies: by several processes, stopped at any moment, with broken files, of several corpora."""

import shutil
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.checkpoints import load_quantizer, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.speech_encoder import length_mask
from tests.forked import fork

QUANTIZER = """
import time
from torch import nn

class Loud(nn.Module):
    def __init__(self, num_units: int = 8):
        super().__init__()
        self.num_units = num_units
        self.seconds = 0.0

    def encode(self, waveform):
        time.sleep(self.seconds)
        stretches = waveform[: len(waveform) // 160 * 160].reshape(-1, 160)
        return (stretches.abs().mean(1) * 4 * self.num_units).long().clamp(max=self.num_units - 1)
"""
"""Loudness of each 10 ms, in steps."""


@pytest.fixture
def place(tmp_path, corpus, monkeypatch):
    """A manifest of 24 replies of two corpora with the same ids, and a quantizer."""
    (tmp_path / "loud.py").write_text(QUANTIZER)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "loud", raising=False)
    from loud import Loud

    save(tmp_path / "quantizer", Loud())
    rows = []
    for number, u in enumerate(read_manifest(corpus)[:24]):
        reply = shutil.copyfile(u.path, str(tmp_path / f"reply{number}.wav"))
        rows.append(replace(u, units=None, corpus="ab"[number % 2], id=str(number // 2), response_path=reply))
    write_manifest(tmp_path / "spoken.jsonl", rows)
    return tmp_path


def words(place, out="units.jsonl", *more):
    files = [str(place / "spoken.jsonl"), "--out", str(place / out), "--quantizer", str(place / "quantizer")]
    return ["prepare", "units", *files, "--trust=loud", *(more or ["--per_shard=5"])]


def made(place, out):
    files = [place / out, *sorted((place / f"{out}.shards").glob("*.parquet"))]
    return [path.read_bytes() for path in files]


def test_each_reply_of_each_corpus_gets_its_own_units(place):
    assert main(words(place)) == 0
    rows, quantizer = read_manifest(place / "units.jsonl"), load_quantizer(str(place / "quantizer"), ["loud"])
    assert [(u.corpus, u.id) for u in rows] == [(u.corpus, u.id) for u in read_manifest(place / "spoken.jsonl")]
    assert len({tuple(u.units) for u in rows}) > 20
    for u in rows:
        assert u.units == quantizer.encode(read(u.response_path)).tolist()


def test_several_processes_share_the_shards_and_the_last_one_writes(place, monkeypatch):
    assert main(words(place, "alone.jsonl")) == 0
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in (2, 0, 1):
        assert not (place / "shared.jsonl").exists()
        monkeypatch.setenv("RANK", str(rank))
        assert main(words(place, "shared.jsonl")) == 0
    assert made(place, "alone.jsonl") == made(place, "shared.jsonl") and len(made(place, "shared.jsonl")) == 6


def test_killed_in_the_middle_it_ends_with_the_same_bytes(place):
    assert main(words(place, "whole.jsonl")) == 0
    # As slow as it takes to be killed in the middle; the speed is no part of what the units are made from.
    (place / "loud.py").write_text(QUANTIZER.replace("seconds = 0.0", "seconds = 0.3"))
    process = fork(words(place, "killed.jsonl"), place)
    shards = place / "killed.jsonl.shards"
    while len(list(shards.glob("part-*.parquet"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("part-*.parquet")}
    assert not (place / "killed.jsonl").exists() and 2 <= len(kept) < 5
    (shards / ".part-00002.parquet").write_bytes(b"half of it")
    assert main(words(place, "killed.jsonl")) == 0
    assert made(place, "whole.jsonl") == made(place, "killed.jsonl")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_broken_recording_is_counted_refused_or_left_out_and_tried_again(place, capsys):
    reply = place / "reply7.wav"
    heard = reply.read_bytes()
    reply.write_bytes(b"RIFF, and then nothing")
    assert main(words(place)) == 2
    told = capsys.readouterr()
    assert "1 of 24 utterances would be lost: 1 replies whose recording cannot be read" in told.err.splitlines()[-1]
    assert "without units: " in told.out and "reply7.wav" in told.out and not (place / "units.jsonl").exists()
    assert main(words(place, "units.jsonl", "--per_shard=5", "--allow_left_out=0.1")) == 0
    assert len(read_manifest(place / "units.jsonl")) == 23
    reply.write_bytes(heard)
    assert main(words(place, "units.jsonl", "--again")) == 0
    assert len(read_manifest(place / "units.jsonl")) == 24


def test_shards_of_another_job_are_refused(place, capsys):
    assert main(words(place)) == 0
    (place / "units.jsonl").unlink()
    write(place / "reply3.wav", torch.linspace(0, 0.5, 8_000))
    assert main(words(place)) == 2
    assert "was made from something else (replies changed)" in capsys.readouterr().err.splitlines()[-1]
    assert main(words(place, "units.jsonl", "--per_shard=0")) == 2
    assert "--per_shard must be 1 or more" in capsys.readouterr().err.splitlines()[-1]


class Batched(nn.Module):
    """Takes many at a time, and remembers how many."""

    sizes: list[int] = []  # noqa: RUF012

    def __init__(self, num_units: int = 4) -> None:
        super().__init__()
        self.num_units = num_units

    def encode(self, waveform):
        return self.encode_many(waveform[None], torch.tensor([len(waveform)]))[0]

    def encode_many(self, waveform, lengths):
        self.sizes.append(len(waveform))
        assert not (waveform * ~length_mask(lengths, waveform.shape[1])).any()
        return [torch.full((int(length) // 160,), int(length) % 4) for length in lengths]


def test_a_quantizer_that_takes_many_gets_many_of_like_length(place, capsys):
    save(place / "many", Batched())
    files = ["prepare", "units", str(place / "spoken.jsonl"), "--out", str(place / "many.jsonl"), "--quantizer"]
    assert main([*files, str(place / "many"), f"--trust={__name__}", "--per_shard=24"]) == 0
    assert sum(Batched.sizes) == 24 and max(Batched.sizes) > 10
    for u in read_manifest(place / "many.jsonl"):
        length = len(read(u.response_path))
        assert u.units == [length % 4] * (length // 160)
    # One that gives more units than it says it has is told.
    save(place / "few", Batched(2))
    assert main([*files, str(place / "few"), f"--trust={__name__}", "--again"]) == 2
    assert "but it has 2: mend either" in capsys.readouterr().err.splitlines()[-1]
