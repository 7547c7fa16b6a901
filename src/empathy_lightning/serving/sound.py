"""Sound as bytes: what comes in is limited before it is decoded, what goes out is 16-bit PCM or WAV."""

from __future__ import annotations

import io
from math import ceil, gcd

import numpy as np
import soundfile
import torch
from torch import Tensor

from empathy_lightning.audio import AudioError, check_speech, duration_of, from_samples, opened, read, resample
from empathy_lightning.levels import unclipped
from empathy_lightning.sources import InMemory

_MOST_PER_SECOND = 2 * 96_000
"""Samples of all channels in a second of what is decoded, at most."""

_REACH = 16
"""Samples, at the lower of two rates, that the filter between them does not reach beyond."""

PCM16_RATE = 24_000
"""Of what OpenAI calls pcm16, in Hz."""

RATES = range(8_000, 48_001)
"""Rates in Hz of PCM that can be heard."""


def heard_file(data: bytes, longest: float, name: str = "the recording") -> Tensor:
    """Decode a file in memory.

    Args:
        data: WAV, FLAC, MP3, OGG or whatever else soundfile decodes.
        longest: Most seconds of it.
        name: For messages.

    Returns:
        Waveform at 16 kHz, shape (T,).

    Raises:
        AudioError: If it is no such file, is too long, too short or silent.
    """
    file = InMemory(data, name)
    seconds = duration_of(file)
    if seconds > longest + 0.5:
        raise AudioError(f"{name}: {seconds:.0f} s is too long; at most {longest:g} s can be answered")
    with opened(file) as sound:
        if sound.frames * sound.channels > (longest + 0.5) * _MOST_PER_SECOND:
            raise AudioError(f"{name}: {sound.channels} channels at {sound.samplerate} Hz are too many; give fewer")
    waveform = read(file)
    check_speech(waveform, name, longest=longest + 0.5)
    return waveform


def heard_samples(data: bytes, sample_rate: int, name: str = "the recording") -> Tensor:
    """Mono 16-bit little-endian PCM as a waveform at 16 kHz, shape (T,).

    Raises:
        AudioError: If it is too short, too long or silent.
    """
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32_768
    return from_samples(resample(torch.from_numpy(samples), sample_rate), name)


def pcm(waveform: Tensor) -> bytes:
    """A waveform in -1..1, shape (T,), as 16-bit little-endian PCM."""
    samples = (waveform.float().clamp(-1, 1) * 32_767).round().numpy()
    return samples.astype("<i2").tobytes()


def wave(waveform: Tensor, sample_rate: int) -> bytes:
    """A waveform, shape (T,), as a WAV file of 16 bits; one that goes beyond -1..1 is made softer as a whole."""
    file = io.BytesIO()
    soundfile.write(file, unclipped(waveform).numpy(), sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


class StreamedRate:
    """Brings sound that comes in blocks to another rate, as if it were whole.

    Args:
        source: Its rate in Hz.
        target: Wanted.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        # So many samples become a whole number of them, and the filter reaches less far.
        smallest = source // gcd(source, target)
        self._step = smallest * ceil(_REACH * max(1, source / target) / smallest)
        self._held = torch.zeros(0)
        self._before = 0

    def push(self, waveform: Tensor) -> Tensor:
        """Take a block, shape (t,); give what is certain by now."""
        self._held = torch.cat([self._held, waveform.float()])
        ready = (len(self._held) - self._before) // self._step - 1
        return self._resampled(self._before + max(0, ready) * self._step)

    def end(self) -> Tensor:
        """What is left."""
        return self._resampled(len(self._held))

    def _resampled(self, until: int) -> Tensor:
        """The samples up to a place, with those around them as the filter's context."""
        begin = self._before
        if until <= begin:
            return torch.zeros(0)
        whole = resample(self._held, self.source, self.target)
        first, last = begin * self.target // self.source, until * self.target // self.source
        if until == len(self._held):
            # The length of the whole is rounded up.
            last = len(whole)
        given = whole[first:last]
        # One step before what is still to be given stays as the filter's context.
        self._held = self._held[max(0, until - self._step) :]
        self._before = min(until, self._step)
        return given
