"""What may happen to a waveform on its way into training: noise, dropped bands and stretches, other speeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read
from empathy_lightning.errors import InputError
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports
from empathy_lightning.walk import files_below


class Augmentation:
    """Random changes to one waveform at a time, each with the same probability.

    Speed is off by default, and there is no change of pitch: both change the arousal
    that a listener would hear, so a rating would no longer be true.

    Args:
        noise: Lowest and highest signal-to-noise ratio in dB; None switches noise off.
        noise_folder: Recordings of noise, at any rate; None takes white noise.
        drop_frequencies: Silence a few narrow bands.
        drop_stretches: Silence a few stretches of up to 60 ms.
        speeds: Factors to choose from, for example ``(0.9, 1.0, 1.1)``; empty switches it off.
        probability: Of each change.
        rooms: Shortest and longest reverberation time in seconds of rooms that are made up; None switches them off.

    Raises:
        InputError: If a value is out of range, or the folder holds no recordings.
    """

    def __init__(
        self,
        noise: tuple[float, float] | None = (10.0, 30.0),
        noise_folder: str | None = None,
        drop_frequencies: bool = True,
        drop_stretches: bool = True,
        speeds: Sequence[float] = (),
        probability: float = 0.5,
        rooms: tuple[float, float] | None = None,
    ) -> None:
        _check_range("noise", noise, -math.inf)
        _check_range("rooms", rooms, 0.0)
        for speed in speeds:
            _check_range("speeds", (speed, speed), 0.0)
        if not 0 <= probability <= 1:
            raise InputError(f"probability {probability} of a change: give one in 0..1")
        self.noise = noise
        self.noise_folder = noise_folder
        # Found now, not in the middle of the work.
        self._noises = [] if noise_folder is None else _recordings_in(Path(noise_folder))
        self.drop_frequencies = drop_frequencies
        self.drop_stretches = drop_stretches
        self.speeds = tuple(speeds)
        self.probability = probability
        self.rooms = rooms

    @cached_property
    def _changes(self) -> dict[str, Any]:
        with speechbrain_imports():
            from speechbrain.augment.time_domain import DropChunk, DropFreq, SpeedPerturb

        changes: dict[str, Any] = {}
        if self.speeds:
            changes["speed"] = SpeedPerturb(SAMPLE_RATE, [round(100 * s) for s in self.speeds])
        if self.drop_frequencies:
            changes["frequencies"] = DropFreq()
        if self.drop_stretches:
            changes["stretches"] = DropChunk(drop_length_low=160, drop_length_high=960)
        return changes

    def __call__(self, waveform: Tensor) -> Tensor:
        """Change a waveform (T,) at 16 kHz; only another speed changes its length."""
        for name, change in self._changes.items():
            if torch.rand(()) < self.probability:
                # What drops stretches asks for the share of each row that is speech.
                arguments = (torch.ones(1),) if name == "stretches" else ()
                waveform = change(waveform[None], *arguments)[0]
        if self.rooms is not None and torch.rand(()) < self.probability:
            low, high = self.rooms
            seconds = float(low + (high - low) * torch.rand(()))
            waveform = in_room(waveform, seconds, float(20 * torch.rand(()) - 5))
        if self.noise is not None and torch.rand(()) < self.probability:
            waveform = self._with_noise(waveform, *self.noise)
        return waveform

    def _with_noise(self, waveform: Tensor, low: float, high: float) -> Tensor:
        from torchaudio.functional import add_noise

        noise = torch.randn_like(waveform)
        if self.noise_folder is not None:
            recorded = read(self._noises[int(torch.randint(len(self._noises), ()))])
            start = int(torch.randint(len(recorded), ()))
            times = -(-len(waveform) // len(recorded))
            noise = recorded.roll(-start).repeat(times)[: len(waveform)]
        if not waveform.any() or not noise.any():
            return waveform
        changed: Tensor = add_noise(waveform, noise, low + (high - low) * torch.rand(()))
        return changed


def _check_range(name: str, values: tuple[float, float] | None, above: float) -> None:
    """Refuse two ends that are none.

    Raises:
        InputError: If one is no number or not above the least, or they stand in the wrong order.
    """
    if values is not None and not above < values[0] <= values[1] < math.inf:
        least = "" if above == -math.inf else f" above {above:g}"
        raise InputError(f"{name} {' '.join(map(str, values))}: give numbers{least}, the lower one first")


def _recordings_in(folder: Path) -> list[Path]:
    below = files_below(folder) if folder.is_dir() else []
    paths = [path for path in below if path.suffix.lower() in (".wav", ".flac")]
    if not paths:
        raise AudioError(f"{folder}: no WAV or FLAC file of noise")
    return paths


def in_room(waveform: Tensor, seconds: float, ratio: float) -> Tensor:
    """A waveform as it sounds in a room that is made up: noise that dies away, after the sound itself (Moorer 1979).

    Args:
        waveform: At 16 kHz, shape (T,).
        seconds: Reverberation time: until the room has died away by 60 dB.
        ratio: Of the sound itself to the room's, in dB.

    Returns:
        Shape (T,), as loud as before; what the room adds after the end is cut.
    """
    from torchaudio.functional import fftconvolve

    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = torch.randn(len(time)) * 10 ** (-3 * time / seconds)
    response = tail / tail.norm() * 10 ** (-ratio / 20)
    response[0] = 1.0
    changed: Tensor = fftconvolve(waveform, response)[: len(waveform)]
    power = changed.square().mean()
    return changed * (waveform.square().mean() / power).sqrt() if power > 0 else waveform


@contextmanager
def drawn_from(key: tuple[int, ...]) -> Iterator[None]:
    """What is drawn inside on the CPU follows from the key; outside, torch's generator goes on as if nothing was drawn.

    Args:
        key: Whole numbers from 0.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
