"""What may happen to a waveform on its way into training: noise, dropped bands and stretches, other speeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read
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
    """

    def __init__(
        self,
        noise: tuple[float, float] | None = (10.0, 30.0),
        noise_folder: str | None = None,
        drop_frequencies: bool = True,
        drop_stretches: bool = True,
        speeds: Sequence[float] = (),
        probability: float = 0.5,
    ) -> None:
        self.noise = noise
        self.noise_folder = noise_folder
        self.drop_frequencies = drop_frequencies
        self.drop_stretches = drop_stretches
        self.speeds = tuple(speeds)
        self.probability = probability

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

    @cached_property
    def _noises(self) -> list[Path]:
        paths = [p for p in files_below(Path(str(self.noise_folder))) if p.suffix.lower() in (".wav", ".flac")]
        if not paths:
            raise AudioError(f"{self.noise_folder}: no WAV or FLAC file of noise")
        return paths

    def __call__(self, waveform: Tensor) -> Tensor:
        """Change a waveform (T,) at 16 kHz; only another speed changes its length."""
        for name, change in self._changes.items():
            if torch.rand(()) < self.probability:
                rows = waveform[None]
                waveform = (change(rows, torch.ones(1)) if name == "stretches" else change(rows))[0]
        if self.noise is not None and torch.rand(()) < self.probability:
            waveform = self._with_noise(waveform, *self.noise)
        return waveform

    def _with_noise(self, waveform: Tensor, low: float, high: float) -> Tensor:
        from torchaudio.functional import add_noise

        noise = torch.randn_like(waveform)
        if self.noise_folder is not None:
            recorded = read(self._noises[int(torch.randint(len(self._noises), ()))])
            start = int(torch.randint(len(recorded), ()))
            noise = recorded.roll(-start).repeat(-(-len(waveform) // len(recorded)))[: len(waveform)]
        if not waveform.any() or not noise.any():
            return waveform
        changed: Tensor = add_noise(waveform, noise, low + (high - low) * torch.rand(()))
        return changed


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
