"""Units to a waveform by a small network: local convolutions, and the inverse Fourier transform as its last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KERNEL = 7
"""Frames that a block hears."""
OVERLAP = 4
"""Windows of the inverse transform that lie over each other."""


class ConvolutionBlock(nn.Module):
    """ConvNeXt's block (Liu et al. 2022) over time: a filter for each channel, then a network for each frame.

    Args:
        size: Channels.
        scale: Of what the block adds, at first.
    """

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.filters = nn.Conv1d(size, size, KERNEL, padding=KERNEL // 2, groups=size)
        self.norm = nn.LayerNorm(size, eps=1e-6)
        self.network = nn.Sequential(nn.Linear(size, 3 * size), nn.GELU(), nn.Linear(3 * size, size))
        self.scale = nn.Parameter(torch.full((size,), scale))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, F, C) with what the block adds."""
        heard = self.filters(frames.transpose(1, 2)).transpose(1, 2)
        return frames + self.scale * self.network(self.norm(heard))


class NeuralVocoder(nn.Module):
    """Units to speech in the manner of Vocos (Siuzdak 2023): blocks of ConvNeXt predict magnitude and phase.

    A frame hears a few units on either side and nothing else, so that speech can be made in blocks while the units
    come in; see :class:`.contracts.Vocoder`. It is trained by :class:`empathy_lightning.tasks.VocoderTask`.

    Args:
        num_units: Size of the units' vocabulary.
        hidden_size: Channels.
        num_layers: Blocks.
        frames_per_unit: Frames made of each unit.
        hop_length: Samples from one frame to the next.
        sample_rate: In Hz.
    """

    def __init__(
        self,
        num_units: int = 1024,
        hidden_size: int = 256,
        num_layers: int = 6,
        frames_per_unit: int = 4,
        hop_length: int = 160,
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__()
        self.num_units = num_units
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.frames_per_unit = frames_per_unit
        self.hop_length = hop_length
        self.sample_rate = sample_rate
        self.embedding = nn.Embedding(num_units, hidden_size)
        self.neighbours = nn.Conv1d(hidden_size, frames_per_unit * hidden_size, 3, padding=1)
        self.blocks = nn.ModuleList(ConvolutionBlock(hidden_size, 1 / num_layers) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.n_fft = OVERLAP * hop_length
        self.head = nn.Linear(hidden_size, 2 * (self.n_fft // 2 + 1))
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.window: Tensor

    @property
    def samples_per_unit(self) -> int:
        """Samples of each unit."""
        return self.frames_per_unit * self.hop_length

    @property
    def context(self) -> int:
        """Units on either side that are heard in a unit's samples."""
        frames = self.num_layers * (KERNEL // 2) + OVERLAP // 2
        return 1 + -(-frames // self.frames_per_unit)

    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U), T = U * samples_per_unit; no units give empty ones."""
        if not units.numel():
            return torch.zeros(len(units), 0, device=units.device)
        return self.unclipped(units).clamp(-1, 1)

    def unclipped(self, units: Tensor) -> Tensor:
        """As :meth:`forward`, but for at least one unit, and louder samples have a gradient too: for training."""
        batch, length = units.shape
        spread = self.neighbours(self.embedding(units).transpose(1, 2))
        frames = spread.transpose(1, 2).reshape(batch, length * self.frames_per_unit, self.hidden_size)
        for block in self.blocks:
            frames = block(frames)
        # Half precision has neither the range of the magnitudes nor a Fourier transform.
        magnitude, phase = self.head(self.norm(frames)).float().chunk(2, dim=2)
        spectrum = torch.polar(magnitude.clamp(max=5).exp(), phase)
        return self._overlapped(torch.fft.irfft(spectrum, self.n_fft))

    def _overlapped(self, pieces: Tensor) -> Tensor:
        """Waveforms (B, F * hop) of pieces (B, F, n_fft), each around the middle of its hop."""
        batch, frames, _ = pieces.shape
        quarters = (pieces * self.window).reshape(batch, frames, OVERLAP, self.hop_length)
        whole = pieces.new_zeros(batch, frames + OVERLAP - 1, self.hop_length)
        for place in range(OVERLAP):
            whole[:, place : place + frames] += quarters[:, :, place]
        # The windows add up to 2 everywhere but at the very ends.
        beside = (self.n_fft - self.hop_length) // 2
        return whole.flatten(1)[:, beside : beside + frames * self.hop_length] / 2
