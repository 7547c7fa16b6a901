"""How far speech is from its recording in the spectrum, at several resolutions and in mel bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.outputs import VocoderOutput

FLOOR = 1e-2
"""Magnitude below which a band is silent."""


def magnitude(waveform: Tensor, n_fft: int) -> Tensor:
    """Magnitudes (B, bins, frames) of waveforms (B, T) in Hann windows a quarter of their length apart."""
    window = torch.hann_window(n_fft, device=waveform.device)
    padded = nn.functional.pad(waveform.float(), (n_fft // 2, n_fft // 2))
    spectrum = torch.stft(padded, n_fft, n_fft // 4, window=window, center=False, return_complex=True)
    # A magnitude of 0 has no gradient.
    return spectrum.real.square().add(spectrum.imag.square()).clamp(min=1e-9).sqrt()


class MultiResolutionSpectralLoss(nn.Module):
    """Spectral convergence and distance of log magnitudes over several windows (Yamamoto et al. 2020).

    Args:
        sizes: Samples of the windows.
    """

    def __init__(self, sizes: Sequence[int] = (256, 512, 1024)) -> None:
        super().__init__()
        self.sizes = list(sizes)

    def forward(self, output: VocoderOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the windows, a scalar; reads ``spoken`` and ``recorded`` alone."""
        losses = []
        for size in self.sizes:
            spoken, recorded = magnitude(output.spoken, size), magnitude(output.recorded, size)
            convergence = (spoken - recorded).norm() / recorded.norm().clamp(min=FLOOR)
            losses.append(convergence + _log_distance(spoken, recorded))
        return torch.stack(losses).mean()


class MelDistance(nn.Module):
    """Mean distance of log mel magnitudes, in nepers.

    Args:
        num_mel_bins: Bands from 0 to half the sample rate.
        n_fft: Samples of the windows.
        sample_rate: In Hz.
    """

    def __init__(self, num_mel_bins: int = 80, n_fft: int = 1024, sample_rate: int = 16_000) -> None:
        super().__init__()
        self.n_fft = n_fft
        bank = mel_filter_bank(n_fft // 2 + 1, num_mel_bins, 0.0, sample_rate / 2, sample_rate, mel_scale="htk")
        self.register_buffer("bank", torch.as_tensor(bank.T, dtype=torch.float32), persistent=False)
        self.bank: Tensor

    def forward(self, spoken: Tensor, recorded: Tensor) -> Tensor:
        """A scalar, of waveforms (B, T) of one length."""
        # In 16 bits the bands would be rounded.
        with torch.autocast(self.bank.device.type, enabled=False):
            said = self.bank @ magnitude(spoken, self.n_fft)
            heard = self.bank @ magnitude(recorded, self.n_fft)
            return _log_distance(said, heard)


def _log_distance(spoken: Tensor, recorded: Tensor) -> Tensor:
    return (spoken.clamp(min=FLOOR).log() - recorded.clamp(min=FLOOR).log()).abs().mean()
