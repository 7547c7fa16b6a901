"""Speech to units: the nearest of a codebook's stretches of log-mel frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

FLOOR = 1e-2
"""Power below which a mel band counts as silent, about 60 dB under the bands of loud speech."""


class MelQuantizer(nn.Module):
    """Units as the nearest centres in the space of neighbouring log-mel frames; small, and fitted in seconds.

    Pitch survives because the mel bands are narrower than the spacing of the harmonics. A
    :class:`.contracts.Quantizer`; :func:`empathy_lightning.preparation.codebook.fit_codebook` fills the codebook.

    Args:
        num_units: Size of the codebook.
        frames_per_unit: Frames in a stretch.
        hop_length: Samples from one frame to the next.
        n_fft: Samples that a frame hears.
        num_mel_bins: Mel bands in which distances are measured.
        sample_rate: In Hz.
    """

    def __init__(
        self,
        num_units: int = 1024,
        frames_per_unit: int = 4,
        hop_length: int = 160,
        n_fft: int = 768,
        num_mel_bins: int = 80,
        sample_rate: int = 16_000,
    ) -> None:
        super().__init__()
        self.num_units = num_units
        self.frames_per_unit = frames_per_unit
        self.hop_length = hop_length
        self.n_fft = n_fft
        self.num_mel_bins = num_mel_bins
        self.sample_rate = sample_rate
        filters = mel_filter_bank(n_fft // 2 + 1, num_mel_bins, 0.0, sample_rate / 2, sample_rate, mel_scale="htk")
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("codebook", torch.zeros(num_units, frames_per_unit * num_mel_bins))
        self.filters: Tensor
        self.window: Tensor
        self.codebook: Tensor

    @property
    def samples_per_unit(self) -> int:
        """Samples that a unit stands for."""
        return self.frames_per_unit * self.hop_length

    def stretches(self, waveform: Tensor) -> Tensor:
        """Log-mel frames of each unit's stretch.

        Args:
            waveform: Shape (T,); silence fills up its last stretch.

        Returns:
            Shape (U, frames * mel bands), U the number of stretches begun.
        """
        units = -(-len(waveform) // self.samples_per_unit)
        if not units:
            return self.codebook.new_zeros(0, self.codebook.shape[1])
        # Each frame's window lies around the middle of its hop.
        beside = (self.n_fft - self.hop_length) // 2
        missing = units * self.samples_per_unit - len(waveform)
        padded = nn.functional.pad(waveform.float(), (beside, beside + missing))
        spectrum = torch.stft(
            padded, self.n_fft, self.hop_length, window=self.window, center=False, return_complex=True
        )
        mel = (spectrum.abs().square().T @ self.filters).clamp(min=FLOOR).log()
        return mel.reshape(units, -1)

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,) of a waveform (T,) at the sample rate, one for each stretch begun."""
        return torch.cdist(self.stretches(waveform), self.codebook).argmin(1)
