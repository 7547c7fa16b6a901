"""Scale, constant offset and channels: what makes the samples of a file one waveform in -1..1.

Loudness is never changed: it tells emotions apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from empathy_lightning.errors import AudioError

LISTENED = 600
"""Seconds of a file from which its scale, offset and channels are told: all, or as many spread over a longer one."""

LOUDEST = 10.0
"""Highest sample that is believed: lossy formats and other people's filters overshoot 1 a little."""

_INTEGER_PEAK = 128.0, 1.25 * 32_768
"""Peaks of float samples that are taken for 16-bit integers; quieter ones might have 8 bits, louder ones 24 or 32.

Only what a filter made of them, no whole numbers, may go beyond 32768.
"""

_HISS = 1e-3
"""Range of a channel among integers up to which it may be what a filter left; from there to 2 it is in -1..1."""

_OFFSET = 0.2
"""Share of the sound's RMS from which on a constant offset is taken out."""

_DEAD = 0.03
"""Where a channel's loudest 0.1 s lies below this share of the loudest channel's, it is dead (-30 dB)."""

_OPPOSITE = -0.5
"""Correlation with the loudest channel below which a channel is turned round before it is mixed."""

_SHORTEST = 0.1
"""Seconds from which on a mean is a constant offset, and no half of a slow wave."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is done to the samples of a file.

    Attributes:
        scale: Factor.
        offset: Taken from each channel first, in the file's own scale.
        signs: Of each channel in the mix: 1, -1 where it is turned round, 0 where it is left out.
    """

    scale: float
    offset: tuple[float, ...]
    signs: tuple[int, ...]

    def describe(self) -> list[str]:
        """What is done, in a few words each; nothing for an ordinary file."""
        found = []
        if self.scale != 1:
            found.append("samples in the scale of 16-bit integers, read divided by 32768")
        if any(self.offset):
            largest = max(self.offset, key=abs) * self.scale
            found.append(f"a constant offset of {largest:.2g} is taken out")
        for number, sign in enumerate(self.signs, 1):
            if sign == 0:
                found.append(f"channel {number} of {len(self.signs)} is dead and left out")
            if sign < 0:
                found.append(f"channel {number} of {len(self.signs)} has the opposite sign and is turned round")
        return found


def measure_file(file: soundfile.SoundFile, name: str) -> Levels:
    """Decide what is to be done to a file, from a second here and there if it is longer than ten minutes.

    Where a channel is dead in them, or all are silent, the loudest seconds of the whole file are heard, too.

    Args:
        file: Open, at its beginning.
        name: For the message.

    Raises:
        AudioError: As in :func:`measure`.
    """
    rate = file.samplerate
    if file.frames <= LISTENED * rate:
        return measure(_next(file, file.frames), rate, name)
    spread = []
    for first in np.linspace(0, file.frames - rate, LISTENED):
        if file.seekable():
            file.seek(int(first))
        spread.append(_next(file, rate))
    samples = np.concatenate(spread)
    levels = measure(samples, rate, name)
    if 0 in levels.signs or not samples.any():
        levels = measure(np.concatenate([samples, *_loudest_seconds(file)]), rate, name)
    return levels


def _next(file: soundfile.SoundFile, frames: int) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = file.read(frames, dtype="float32", always_2d=True)
    return samples


def _loudest_seconds(file: soundfile.SoundFile) -> list[NDArray[np.float32]]:
    """For each channel of a file the second in which it moves most."""
    if file.seekable():
        file.seek(0)
    ranges = np.full(file.channels, -1.0)
    seconds = [_next(file, 0)] * file.channels
    while len(samples := _next(file, file.samplerate)):
        for channel, moved in enumerate(np.ptp(samples, axis=0)):
            if moved > ranges[channel]:
                ranges[channel], seconds[channel] = moved, samples
    return seconds


def measure(samples: NDArray[np.float32], rate: int, name: str) -> Levels:
    """Decide what is to be done, from all samples or enough of them.

    Args:
        samples: As decoded, shape (T, C).
        rate: In Hz.
        name: Of the file, for the message.

    Raises:
        AudioError: If the samples are in a scale that cannot be told.
    """
    channels = samples.shape[1]
    if not samples.size:
        return Levels(1.0, (0.0,) * channels, (1,) * channels)
    # A sum of squares is finite only where all samples are; it costs less than to ask each of them.
    if not np.isfinite(np.vdot(samples, samples)):
        samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    scale = _scale(samples, name)
    columns = [np.ascontiguousarray(channel) for channel in samples.T]
    means = np.array([channel.mean() for channel in columns])
    spread = np.array([_spread(channel, mean) for channel, mean in zip(columns, means, strict=True)])
    offset = np.where((np.abs(means) > _OFFSET * spread) & (len(samples) >= _SHORTEST * rate), means, 0.0)
    signs = (1,) if channels == 1 else _signs(samples - means, rate)
    return Levels(scale, tuple(offset.tolist()), signs)


def _scale(samples: NDArray[np.float32], name: str) -> float:
    peak = max(float(samples.max()), -float(samples.min()))
    if peak < 2 or (peak <= LOUDEST and (samples != samples.round()).any()):
        return 1.0
    lowest, highest = _INTEGER_PEAK
    if (samples == samples.round()).all():
        highest = 32_768
    elif _has_small_channel(samples):
        raise AudioError(f"{name}: channels in different scales, up to {peak:.0f}; scale them all to -1..1")
    # One wild sample does not make a scale: most of what sounds lies above the last of 16 bits.
    if lowest < peak <= highest and (np.abs(samples) > 1).mean() > 0.01:
        return 1 / 32_768
    raise AudioError(f"{name}: samples reach {peak:.0f} in a scale that cannot be told; scale them to -1..1")


def _has_small_channel(samples: NDArray[np.float32]) -> bool:
    """Whether a channel among integers may be sound in -1..1: it moves, but by less than they do."""
    for channel in samples.T:
        moved = float(channel.max()) - float(channel.min())
        if _HISS < moved < 4 and np.abs(channel).max() < 2 and (channel != channel.round()).any():
            return True
    return False


def _spread(channel: NDArray[np.float32], mean: np.float32) -> float:
    """Standard deviation; exact also where nearly all is a constant offset."""
    square = float(np.vdot(channel, channel)) / len(channel)
    # The quick way; a difference of two large squares would lose its digits.
    if float(mean) ** 2 < square / 100:
        return (square - float(mean) ** 2) ** 0.5
    return float(channel.std(dtype=np.float64))


def _signs(centred: NDArray[np.float32], rate: int) -> tuple[int, ...]:
    peaks = [_loudest(channel, rate) for channel in centred.T]
    loudest = int(np.argmax(peaks))
    if peaks[loudest] == 0:
        return (1,) * len(peaks)
    # By numpy's own, a channel that does not move has no correlation and a warning.
    products = centred.T @ centred
    signs = []
    for channel, peak in enumerate(peaks):
        if peak < _DEAD * peaks[loudest]:
            signs.append(0)
            continue
        power = float(products[channel, channel] * products[loudest, loudest]) ** 0.5
        is_opposite = products[channel, loudest] < _OPPOSITE * power
        signs.append(-1 if is_opposite else 1)
    return tuple(signs)


def _loudest(channel: NDArray[np.float32], rate: int) -> float:
    """RMS of the loudest 0.1 s; who says a word only is not dead."""
    window = min(max(1, rate // 10), len(channel))
    stretches = channel[: len(channel) // window * window].reshape(-1, window)
    return float(np.square(stretches).mean(1).max()) ** 0.5


def mixed(samples: NDArray[np.float32], levels: Levels, name: str) -> Tensor:
    """The mean of the channels that sound, in -1..1.

    Args:
        samples: As decoded, shape (T, C).
        levels: Of their file.
        name: Of the file, for the message.

    Returns:
        Waveform, shape (T,).

    Raises:
        AudioError: If samples are not numbers, or reach beyond any scale.
    """
    channels = torch.from_numpy(samples)
    if any(levels.offset):
        channels = channels - torch.tensor(levels.offset, dtype=torch.float32)
    if levels.scale != 1:
        channels = channels * levels.scale
    if all(sign == 1 for sign in levels.signs):
        waveform = channels.mean(1)
    else:
        signs = torch.tensor(levels.signs, dtype=torch.float32)
        waveform = channels @ signs / signs.abs().sum()
    if len(waveform):
        lowest, highest = (float(value) for value in waveform.aminmax())
        if not math.isfinite(highest - lowest):
            raise AudioError(f"{name}: holds samples that are not numbers")
        if max(highest, -lowest) > LOUDEST:
            raise AudioError(f"{name}: samples reach {max(highest, -lowest):.0f}; scale them to -1..1")
    return waveform


def unclipped(waveform: Tensor) -> Tensor:
    """The waveform (T,) for a format that ends at -1..1: made softer as a whole if it goes beyond."""
    waveform = waveform.detach().cpu()
    return waveform / waveform.abs().max().clamp(min=1.0) if len(waveform) else waveform


def faults(waveform: Tensor, rate: int) -> list[str]:
    """What a microphone or a recorder did wrong and nothing can mend, in a few words each.

    Args:
        waveform: Shape (T,).
        rate: In Hz.
    """
    if not len(waveform):
        return []
    found = []
    clipped = _clipped_share(waveform)
    if clipped > 0.0005:
        found.append(f"clipped: {clipped:.1%} of its samples lie flat at the top")
    seconds = _longest_constant(waveform) / rate
    if seconds >= 1.5 and len(waveform) > seconds * rate:
        found.append(f"{seconds:.1f} of its {len(waveform) / rate:.1f} s do not move at all: a dead microphone?")
    window = max(1, rate // 10)
    loudest = waveform.unfold(0, window, window).square().mean(1).max() if len(waveform) >= window else None
    if loudest is not None and loudest < 1e-6:
        found.append("nearly silent: nowhere louder than -60 dB")
    return found


def _clipped_share(waveform: Tensor) -> float:
    """Share of the samples that repeat the highest value, or the lowest, at least three times in a row."""
    peak = waveform.abs().max()
    at_top = waveform.abs() >= 0.999 * peak
    same = (waveform[1:] == waveform[:-1]) & at_top[1:]
    return float((same[1:] & same[:-1]).sum()) / len(waveform)


def _longest_constant(waveform: Tensor) -> int:
    """Samples of the longest stretch that keeps one value."""
    changes = torch.nonzero(waveform[1:] != waveform[:-1])[:, 0] + 1
    edges = torch.cat([torch.zeros(1, dtype=torch.long), changes, torch.tensor([len(waveform)])])
    return int(edges.diff().max())
