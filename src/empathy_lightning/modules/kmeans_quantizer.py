"""Units as the nearest k-means centres of a frozen encoder's layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError
from empathy_lightning.modules.speech_encoder import freeze

_SAMPLE_RATE = 16_000


class KMeansQuantizer(nn.Module):
    """A unit for each frame of an encoder, as HuBERT's are (Hsu et al. 2021, arXiv 2106.07447; Lakhotia et al. 2021).

    Fit its centres with :class:`KMeans` or `prepare quantizer`.

    Args:
        encoder: As :class:`.contracts.SpeechEncoder`; it is frozen here.
        layer: Whose output is quantised, counted from 1; -1 for the last, and 0 for the frames after the final norm.
        num_units: Number of centres.
        size: Width of the layer.

    Raises:
        InputError: If the encoder has no such layer.
    """

    sample_rate = _SAMPLE_RATE

    def __init__(self, encoder: nn.Module, layer: int, num_units: int, size: int) -> None:
        super().__init__()
        layers = getattr(encoder, "num_layers", None)
        if layers is not None and not -layers <= layer <= layers:
            raise InputError(f"layer {layer} is none of the encoder's {layers}: give 1 to {layers}")
        self.encoder: Any = freeze(encoder)
        self.layer = layer
        self.num_units = num_units
        self.size = size
        self.register_buffer("centres", torch.zeros(num_units, size))
        self.centres: Tensor

    def train(self, mode: bool = True) -> KMeansQuantizer:
        """Stay in eval mode: nothing here learns by gradients."""
        return super().train(False)

    @torch.no_grad()
    def features(self, waveform: Tensor, lengths: Tensor) -> list[Tensor]:
        """Frames of the layer, each (U_i, D), of right-padded waveforms (B, T) at 16 kHz with their lengths (B,).

        What is longer than the encoder takes at once is cut into pieces of that length.
        """
        longest = round(getattr(self.encoder, "max_seconds", 30) * _SAMPLE_RATE)
        if int(lengths.max()) > longest:
            return [self._in_pieces(row[:length], longest) for row, length in zip(waveform, lengths, strict=True)]
        heard = self.encoder(waveform, lengths)
        layer = self.layer - 1 if self.layer > 0 else self.layer  # counted from 1, or from the end
        frames = heard.frames if self.layer == 0 else heard.layers[layer]
        return [row[valid].float() for row, valid in zip(frames, heard.mask, strict=True)]

    def _in_pieces(self, waveform: Tensor, longest: int) -> Tensor:
        pieces = waveform.split(longest)
        sizes = [torch.tensor([len(piece)], device=waveform.device) for piece in pieces]
        return torch.cat([self.features(piece[None], size)[0] for piece, size in zip(pieces, sizes, strict=True)])

    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,) of a waveform (T,) at 16 kHz."""
        return self.encode_many(waveform[None], torch.tensor([len(waveform)], device=waveform.device))[0]

    @torch.no_grad()
    def encode_many(self, waveform: Tensor, lengths: Tensor) -> list[Tensor]:
        """Units (U_i,) of right-padded waveforms (B, T) with their valid samples (B,), each as alone."""
        if not waveform.shape[1]:
            return [torch.zeros(0, dtype=torch.long, device=waveform.device) for _ in waveform]
        return [nearest(frames, self.centres) for frames in self.features(waveform, lengths)]


def nearest(frames: Tensor, centres: Tensor) -> Tensor:
    """Index of the nearest centre (U,) of frames (U, D)."""
    # The frame's own square is the same for all centres.
    distances = centres.square().sum(1) - 2 * frames @ centres.mT
    return distances.argmin(1)


class KMeans:
    """k-means over frames that come once, in blocks of any size, and are not kept (Sculley 2010).

    The first ``start`` frames are collected; from them the centres begin, far apart (k-means++), and settle in a few
    rounds. Every later block moves each centre to the mean of all the frames that it was nearest to so far.

    Args:
        num_units: Number of centres.
        start: Frames from which they begin, at least ``num_units``.
        seed: Of the draws.
        rounds: In which they settle.
    """

    def __init__(self, num_units: int, start: int, seed: int = 0, rounds: int = 10) -> None:
        self.num_units = num_units
        self.start = max(start, num_units)
        self.rounds = rounds
        self.seen = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[Tensor] = []
        self._centres: Tensor | None = None
        self._counts: Tensor | None = None

    def add(self, frames: Tensor) -> None:
        """Learn from frames (U, D)."""
        self.seen += len(frames)
        if self._centres is not None:
            self._move(frames)
            return
        self._waiting.append(frames)
        if self.seen >= self.start:
            self._begin()

    def centres(self) -> Tensor:
        """The centres (K, D).

        Raises:
            InputError: If there were fewer frames than centres.
        """
        if self._centres is None:
            if self.seen < self.num_units:
                raise InputError(
                    f"{self.seen} frames of speech are fewer than {self.num_units} units: give more speech, or fewer "
                    "units"
                )
            self._begin()
        assert self._centres is not None
        return self._centres

    def _begin(self) -> None:
        frames = torch.cat(self._waiting)
        self._waiting = []
        centres = self._far_apart(frames)
        for _ in range(self.rounds):
            units = nearest(frames, centres)
            sums, counts = self._sums(frames, units)
            # Where two frames are the same, a centre may have none; it stays where it is.
            centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        self._centres = centres
        self._counts = self._sums(frames, nearest(frames, centres))[1]

    def _far_apart(self, frames: Tensor) -> Tensor:
        """Frames (K, D), each drawn by its squared distance to those before it."""
        chosen = [int(torch.randint(len(frames), (), generator=self._generator))]
        distances = (frames - frames[chosen[0]]).square().sum(1)
        for _ in range(self.num_units - 1):
            # In float32 a sum of millions would not grow by one distance more.
            sums = distances.double().cumsum(0)
            drawn = torch.rand((), generator=self._generator, dtype=torch.float64).to(sums) * sums[-1]
            chosen.append(min(int(torch.searchsorted(sums, drawn, right=True)), len(frames) - 1))
            distances = torch.minimum(distances, (frames - frames[chosen[-1]]).square().sum(1))
        return frames[chosen].clone()

    def _sums(self, frames: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
        """Sum (K, D) and number (K,) of the frames of each unit."""
        sums = frames.new_zeros(self.num_units, frames.shape[1]).index_add_(0, units, frames)
        return sums, torch.bincount(units, minlength=self.num_units).to(frames)

    def _move(self, frames: Tensor) -> None:
        assert self._centres is not None and self._counts is not None
        sums, counts = self._sums(frames, nearest(frames, self._centres))
        self._counts = self._counts + counts
        self._centres = self._centres + (sums - counts[:, None] * self._centres) / self._counts.clamp(min=1)[:, None]
