"""Read audio files: any format and rate that soundfile decodes, to mono at 16 kHz, checked.

Everything that hears a file hears it through :func:`read`: what the file says of its length is held against what
is there (:mod:`.containers`), scale, offset and channels are mended (:mod:`.levels`), and what cannot be mended is
refused. What is mended is decided for all segments of a file alike.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from empathy_lightning.containers import UNKNOWN_FRAMES, missing_part, with_true_length
from empathy_lightning.errors import AudioError as AudioError
from empathy_lightning.files import whole
from empathy_lightning.levels import LISTENED, Levels, measure, measure_file, mixed, unclipped
from empathy_lightning.sources import InMemory, Source, content, source_of

SAMPLE_RATE = 16_000
"""Rate of all waveforms inside the library, in Hz."""

LONGEST = 300.0
"""Seconds of the longest recording that is answered."""


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


@contextmanager
def opened(path: Source) -> Iterator[soundfile.SoundFile]:
    """Open a file, with the number of frames that are there whatever its header says.

    Raises:
        AudioError: If the file is missing or cannot be decoded, now or while it is open.
    """
    try:
        with soundfile.SoundFile(source_of(path)) as file:
            # Only these are known to be wrong; anything else is never read twice.
            doubtful = file.format == "MP3" or not 0 < file.frames < UNKNOWN_FRAMES
            other = with_true_length(content(path), file.format, file.frames) if doubtful else None
            if other is None and file.frames >= UNKNOWN_FRAMES:
                raise soundfile.SoundFileRuntimeError("of unknown length")
            if other is None:
                yield file
        if other is not None:
            with soundfile.SoundFile(io.BytesIO(other)) as file:
                yield file
    except (soundfile.SoundFileError, RuntimeError, MemoryError):  # a header may promise more than fits
        say = "damaged, cut, or not audio that can be decoded; give WAV, FLAC, MP3 or OGG (`ffmpeg -i FILE new.wav`)"
        raise AudioError(f"{path}: {say}") from None


def samples_of(file: soundfile.SoundFile, first: int = 0, last: int | None = None) -> NDArray[np.float32]:
    """Samples from one frame to another as they are decoded, shape (T, C); in MP3, found by decoding from the start."""
    last = file.frames if last is None else min(last, file.frames)
    first = min(first, last)
    # After a jump an MP3 decoder leaves out frames that need what it jumped over, and all later ones come too early.
    begin = first if file.seekable() and file.format != "MP3" else 0
    if begin:
        file.seek(begin)
    samples: NDArray[np.float32] = file.read(last - begin, dtype="float32", always_2d=True)
    return samples[first - begin :]


def read(path: Source, start: float = 0.0, end: float | None = None, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Read a file or a segment of one.

    Float samples in the scale of 16-bit integers are divided by 32768, a constant offset is taken out, dead channels
    are left out of the mix and those of opposite sign turned round; loudness stays as it is.

    Args:
        path: WAV, FLAC, MP3, OGG or whatever else soundfile decodes, or a URL, or a part
            of a file (:mod:`.sources`); or one in memory.
        start: First second.
        end: Last second; None for the end of the file.
        sample_rate: Of the waveform, in Hz.

    Returns:
        Mono waveform, shape (T,), in -1..1 but for a little overshoot.

    Raises:
        AudioError: If the file is missing, is not audio, holds no samples or NaN, or is in a scale that cannot be told.
    """
    with opened(path) as file:
        rate, frames = file.samplerate, file.frames
        first = round(start * rate)
        last = frames if end is None else first + max(0, round((end - start) * rate))
        samples = samples_of(file, first, last)
    if not len(samples):
        part = "(was the recorder stopped?); record it again"
        if frames:
            part = f"from second {start:g} on: it has {frames / rate:.2f} s"
        raise AudioError(f"{path}: holds no samples {part}")
    is_whole = first == 0 and last >= frames
    levels = levels_of(path, samples if is_whole else None, rate)
    return resample(mixed(samples, levels, str(path)), rate, sample_rate)


def levels_of(path: Source, samples: NDArray[np.float32] | None, rate: int) -> Levels:
    """What is done to a file, told from all its samples (T, C) where they are here and it is not long."""
    if samples is not None and len(samples) <= LISTENED * rate:
        return measure(samples, rate, str(path))
    if isinstance(path, InMemory):
        with opened(path) as file:
            return measure_file(file, str(path))
    return _levels_of(str(path), _version(path))


@lru_cache(maxsize=65_536)
def _levels_of(path: str, version: tuple[int, int]) -> Levels:
    with opened(path) as file:
        return measure_file(file, path)


def _version(path: str | Path) -> tuple[int, int]:
    """Time and size, by which another file of the same name is told; rows of shards are never rewritten."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


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
        quietest = begin + int(energy.argmin()) * (window // 2)
        cut = quietest + window // 2
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]


def read_speech(path: Source, longest: float = LONGEST) -> Tensor:
    """Read a recording that is to be answered; one that is too long is refused before it is decoded.

    Of a file that was cut in the middle, what is there is heard, with a warning.

    Args:
        path: As in :func:`read`.
        longest: Most seconds.

    Returns:
        Waveform at 16 kHz, mono, shape (T,), in -1..1.

    Raises:
        AudioError: As in :func:`read` and :func:`check_speech`.
    """
    try:
        seconds = duration_of(path)
    except AudioError:
        seconds = 0.0  # Reading it will say what is wrong.
    _check_longest(seconds, path, longest)
    waveform = read(path)
    check_speech(waveform, path, longest=longest)
    with opened(path) as file:
        missing = missing_part(content(path), file.format)
    if missing:
        warnings.warn(f"{path}: {missing}; what is there is heard", stacklevel=2)
    return waveform


def _check_longest(seconds: float, path: Source, longest: float) -> None:
    if seconds > longest + 0.5:  # MP3 pads its ends
        raise AudioError(f"{path}: {seconds:.0f} s is too long; at most {longest:.0f} s can be answered")


def check_speech(waveform: Tensor, path: Source, shortest: float = 0.2, longest: float = LONGEST) -> None:
    """Refuse what no one could answer.

    Args:
        waveform: At 16 kHz, shape (T,).
        path: Where it came from, for the message.
        shortest: Least seconds.
        longest: Most seconds.

    Raises:
        AudioError: If the waveform is too short, too long or silent.
    """
    seconds = len(waveform) / SAMPLE_RATE
    if seconds < shortest:
        raise AudioError(f"{path}: {seconds:.2f} s is too short; at least {shortest} s of speech are needed")
    _check_longest(seconds, path, longest)
    if waveform.abs().max() < 1e-4:  # three steps of 16 bits
        raise AudioError(f"{path}: is silent")


def from_samples(samples: Tensor, name: str) -> Tensor:
    """A waveform that did not come from a file, mended like one.

    Args:
        samples: Floats at 16 kHz, shape (T,).
        name: For the message.

    Raises:
        AudioError: As in :func:`read` and :func:`check_speech`.
    """
    values = samples.detach().float().cpu().numpy()[:, None]
    waveform = mixed(values, measure(values, SAMPLE_RATE, name), name)
    check_speech(waveform, name)
    return waveform


def duration_of(path: Source, start: float = 0.0, end: float | None = None) -> float:
    """Seconds of a segment, from the file's header where it can be trusted, else counted; nothing is decoded.

    Raises:
        AudioError: If the file is missing or is not audio.
    """
    with opened(path) as file:
        last = file.frames / file.samplerate
    if end is not None:
        last = min(end, last)
    return float(last - start)


def write(path: str | Path, waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> None:
    """Write a 16-bit WAV or FLAC file, under a temporary name first.

    Args:
        path: Its suffix names the format.
        waveform: Shape (T,); one that goes beyond -1..1 is made softer as a whole.
        sample_rate: In Hz.

    Raises:
        InputError: If it cannot be written, because the disk is full or the name too long; nothing is left then.
    """
    path = Path(path)
    kind = path.suffix[1:].upper() or "WAV"
    with whole(path) as partial:
        try:
            soundfile.write(partial, unclipped(waveform).numpy(), sample_rate, format=kind, subtype="PCM_16")
        except soundfile.LibsndfileError as error:
            # Which `whole` tells as it tells any other file that cannot be written.
            raise OSError(str(error)) from None
