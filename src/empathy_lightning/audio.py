"""Read audio files: any format and rate that soundfile decodes, to mono at 16 kHz, checked."""

from __future__ import annotations

import io
import math
import os
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.files import whole

SAMPLE_RATE = 16_000
"""Rate of all waveforms inside the library, in Hz."""

LONGEST = 300.0
"""Seconds of the longest recording that is answered."""


class AudioError(InputError):
    """A recording that cannot be used; the message names the file and says why."""


@cache
def _resampler(source: int, target: int) -> torch.nn.Module:
    import torchaudio

    return torchaudio.transforms.Resample(source, target)


def resample(waveform: Tensor, source: int, target: int = SAMPLE_RATE) -> Tensor:
    """Resample (..., T) from one rate in Hz to another."""
    if source == target:
        return waveform
    if target // math.gcd(source, target) > 1_000:
        # An odd rate would need a huge filter bank; the nearest tenth of a percent is inaudible.
        return resample(waveform, round(source / 100) * 100, target)
    resampled: Tensor = _resampler(source, target)(waveform)
    return resampled


def _source(path: str | Path) -> bytes | io.BytesIO:
    """What soundfile opens: a file's name in the system's bytes, or the audio in a row of a Parquet shard."""
    shard, _, row = str(path).rpartition("#")
    if shard.endswith(".parquet"):
        return io.BytesIO(_row(shard, int(row)))
    if not Path(path).is_file():
        raise AudioError(f"{path}: {'a folder; give its files' if Path(path).is_dir() else 'no such file'}")
    return os.fsencode(path)


def _row(shard: str, row: int) -> bytes:
    group, place = _group(shard, row, os.getpid())
    audio: bytes = group["audio"][place].as_py()
    return audio


@lru_cache(maxsize=8)
def _group(shard: str, row: int, process: int) -> tuple[Any, int]:
    """Row group that holds a row, and the row's place in it."""
    file = _shard(shard, process)
    for index in range(file.num_row_groups):
        size = file.metadata.row_group(index).num_rows
        if row < size:
            return file.read_row_group(index, ["audio"]), row
        row -= size
    raise AudioError(f"{shard}: has no row {row}")


@lru_cache(maxsize=64)
def _shard(name: str, process: int) -> Any:
    """An open shard; loader processes must not share one."""
    import fsspec
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(fsspec.open(name, "rb").open())
    except (OSError, pyarrow.ArrowException) as error:
        raise AudioError(f"{name}: {' '.join(str(error).split())}") from None


def read(path: str | Path, start: float = 0.0, end: float | None = None) -> Tensor:
    """Read a file or a segment of one.

    Args:
        path: WAV, FLAC, MP3, OGG or whatever else soundfile decodes, or ``SHARD.parquet#ROW``.
        start: First second.
        end: Last second; None for the end of the file.

    Returns:
        Waveform at 16 kHz, mono, shape (T,), in -1..1.

    Raises:
        AudioError: If the file is missing, is not audio, or holds no samples or NaN.
    """
    try:
        with soundfile.SoundFile(_source(path)) as file:
            rate = file.samplerate
            file.seek(min(round(start * rate), file.frames))
            count = -1 if end is None else round((end - start) * rate)
            samples = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError):
        raise AudioError(f"{path}: damaged, or not audio that can be decoded; give WAV, FLAC, MP3 or OGG") from None
    waveform = torch.from_numpy(samples).mean(1)
    if not len(waveform):
        raise AudioError(f"{path}: holds no samples")
    if not waveform.isfinite().all():
        raise AudioError(f"{path}: holds samples that are not numbers")
    return resample(waveform, rate)


def split_at_pauses(waveform: Tensor, longest: float) -> list[Tensor]:
    """Cut speech into pieces of at most ``longest`` seconds, each cut at the quietest 0.1 s of its last third.

    Args:
        waveform: At 16 kHz, shape (T,).
        longest: Most seconds of a piece.
    """
    most, window = round(longest * SAMPLE_RATE), SAMPLE_RATE // 10
    pieces = []
    while len(waveform) > most:
        begin = most * 2 // 3
        energy = waveform[begin:most].unfold(0, window, window // 2).square().mean(1)
        cut = begin + int(energy.argmin()) * (window // 2) + window // 2
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def read_speech(path: str | Path) -> Tensor:
    """Read a recording that is to be answered; one that is too long is refused before it is decoded.

    Args:
        path: As in :func:`read`.

    Returns:
        Waveform at 16 kHz, mono, shape (T,), in -1..1.

    Raises:
        AudioError: As in :func:`read` and :func:`check_speech`.
    """
    try:
        seconds = duration_of(path)
    except AudioError:
        seconds = 0.0  # Reading it will say what is wrong.
    _check_longest(seconds, path, LONGEST)
    waveform = read(path)
    check_speech(waveform, path)
    return waveform


def _check_longest(seconds: float, path: str | Path, longest: float) -> None:
    if seconds > longest + 0.5:  # MP3 pads its ends
        raise AudioError(f"{path}: {seconds:.0f} s is too long; at most {longest:.0f} s can be answered")


def check_speech(waveform: Tensor, path: str | Path, shortest: float = 0.2, longest: float = LONGEST) -> None:
    """Refuse what no one could answer.

    Args:
        waveform: At 16 kHz, shape (T,).
        path: Where it came from, for the message.
        shortest: Least seconds.
        longest: Most seconds.

    Raises:
        AudioError: If the waveform is too short, too long, silent or far beyond -1..1.
    """
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < shortest:
        raise AudioError(f"{path}: {seconds:.2f} s is too short; at least {shortest} s of speech are needed")
    _check_longest(seconds, path, longest)
    if waveform.abs().max() < 1e-4:
        raise AudioError(f"{path}: is silent")
    if waveform.abs().max() > 10:  # lossy formats and other people's filters overshoot 1 a little
        raise AudioError(f"{path}: samples reach {waveform.abs().max():.0f}; scale them to -1..1")


def duration_of(path: str | Path, start: float = 0.0, end: float | None = None) -> float:
    """Seconds of a segment, from the file's header.

    Raises:
        AudioError: If the file is missing or is not audio.
    """
    try:
        info = soundfile.info(_source(path))
    except (soundfile.SoundFileError, RuntimeError):
        raise AudioError(f"{path}: no such file, or not audio") from None
    last = info.frames / info.samplerate
    return float((last if end is None else min(end, last)) - start)


def write(path: str | Path, waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a 16-bit WAV or FLAC file, under a temporary name first.

    Args:
        path: Its suffix names the format.
        waveform: Shape (T,), in -1..1.
        sample_rate: In Hz.

    Raises:
        InputError: If it cannot be written, because the disk is full or the name too long; nothing is left then.
    """
    path = Path(path)
    kind = path.suffix[1:].upper() or "WAV"
    with whole(path) as partial:
        try:
            soundfile.write(partial, waveform.detach().cpu().numpy(), sample_rate, format=kind, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            raise OSError(str(error)) from None
