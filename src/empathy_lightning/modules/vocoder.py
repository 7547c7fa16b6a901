"""Speech units and back: a quantiser over mel frames, and a vocoder from units to a waveform.

Both share one codebook. It is the small default that trains in seconds; any module with the contracts of
:mod:`.contracts` can take its place, in training and in a checkpoint folder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank


def log_spectrum(waveform: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Natural log of the magnitude spectrum, shape (frames, bins), of a waveform (T,)."""
    n_fft = len(window)
    waveform = nn.functional.pad(waveform, (0, max(0, n_fft - len(waveform))))
    spectrum = torch.stft(waveform, n_fft, hop_length, window=window, return_complex=True)
    return spectrum.abs().clamp(min=1e-4).log().T


def griffin_lim(
    magnitude: Tensor, window: Tensor, hop_length: int, iterations: int = 32, momentum: float = 0.99
) -> Tensor:
    """Find a waveform with a given magnitude spectrum.

    Fast Griffin-Lim (Perraudin et al. 2013) from random phase with a fixed seed.

    Args:
        magnitude: Shape (bins, frames).
        window: Analysis window, shape (n_fft,).
        hop_length: Samples between frames.
        iterations: Rounds of the search.
        momentum: Acceleration, 0 for the original algorithm.

    Returns:
        Waveform, shape (T,).
    """
    n_fft, frames = len(window), magnitude.shape[1]
    # The analysis mirrors half a window at either end, so it needs more than that.
    magnitude = nn.functional.pad(magnitude, (0, max(0, n_fft // (2 * hop_length) + 2 - frames)), mode="replicate")
    generator = torch.Generator().manual_seed(0)
    phase = torch.rand(magnitude.shape, generator=generator).to(magnitude) * 2 * torch.pi
    angles, previous = torch.polar(torch.ones_like(magnitude), phase), None
    for _ in range(iterations):
        waveform = torch.istft(magnitude * angles, n_fft, hop_length, window=window)
        rebuilt = torch.stft(waveform, n_fft, hop_length, window=window, return_complex=True)
        step = rebuilt if previous is None else rebuilt - momentum / (1 + momentum) * previous
        angles, previous = step / step.abs().clamp(min=1e-12), rebuilt
    return torch.istft(magnitude * angles, n_fft, hop_length, window=window)[: max(1, frames - 1) * hop_length]


class Vocoder(nn.Module):
    """Codebook over short stretches of speech, with the spectrum that each unit stands for.

    Units are the nearest of ``num_units`` centres in the space of ``stack``
    neighbouring log-mel frames; a unit sounds as the mean log spectrum of its
    stretch, and Griffin-Lim finds the phase. Pitch survives because the mel bands
    are narrower than the spacing of the harmonics.

    Args:
        num_units: Size of the codebook.
        stack: Frames of 20 ms per unit; 2 gives 25 units per second.
        num_mel_bins: Mel bands in which distances are measured.
        n_fft: Samples per frame.
        sample_rate: In Hz.
    """

    def __init__(
        self, num_units: int = 512, stack: int = 2, num_mel_bins: int = 80, n_fft: int = 1024, sample_rate: int = 16_000
    ) -> None:
        super().__init__()
        self.num_units = num_units
        self.stack = stack
        self.num_mel_bins = num_mel_bins
        self.n_fft = n_fft
        self.sample_rate = sample_rate
        self.hop_length = sample_rate // 50
        # Griffin-Lim drops the last frame, and its search for the phase hears the whole reply.
        self.samples_per_unit = None
        self.context = None
        bins = n_fft // 2 + 1
        filters = mel_filter_bank(bins, num_mel_bins, 0.0, sample_rate / 2, sample_rate, mel_scale="htk")
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float32), persistent=False)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("codebook", torch.zeros(num_units, stack * num_mel_bins))
        self.register_buffer("spectra", torch.zeros(num_units, stack * bins))
        self.filters: Tensor
        self.window: Tensor
        self.codebook: Tensor
        self.spectra: Tensor

    @property
    def units_per_second(self) -> float:
        """Rate of the units."""
        return self.sample_rate / (self.hop_length * self.stack)

    def stretches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel features (U, stack * mel bins) and log spectra (U, stack * bins) of a waveform (T,)."""
        spectrum = log_spectrum(waveform.float(), self.window, self.hop_length)
        spectrum = spectrum[: len(spectrum) // self.stack * self.stack]
        mel = ((2 * spectrum).exp() @ self.filters).clamp(min=1e-6).log()
        return mel.reshape(-1, self.codebook.shape[1]), spectrum.reshape(-1, self.spectra.shape[1])

    @torch.no_grad()
    def encode(self, waveform: Tensor) -> Tensor:
        """Units (U,) of a waveform (T,) at the vocoder's sample rate."""
        features, _ = self.stretches(waveform)
        return torch.cdist(features, self.codebook).argmin(1)

    @torch.no_grad()
    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U); no units give empty ones."""
        if not units.numel():
            return torch.zeros(len(units), 0, device=units.device)
        return torch.stack([self._spoken(row) for row in units])

    def _spoken(self, units: Tensor) -> Tensor:
        """Waveform (T,) of units (U,)."""
        spectrum = self.spectra[units].reshape(-1, self.n_fft // 2 + 1).T.exp()
        return griffin_lim(spectrum, self.window, self.hop_length).clamp(-1, 1)
