"""Pitch, loudness and spectral tilt of an utterance in a few numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empathy_lightning.modules.speech_encoder import length_mask

NUM_STATISTICS = 23
"""Numbers that :func:`prosodic_statistics` gives for an utterance."""

_WINDOW, _HOP, _SIZE = 768, 320, 1024
_SHORTEST, _LONGEST = 32, 246
"""Lags of 500 and 65 Hz at 16 kHz; a window and the longest lag fit into the transform, so nothing wraps around."""


def _correlate(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Autocorrelation of the last axis at lags up to the longest, and the power spectrum."""
    spectrum = torch.fft.rfft(signal, _SIZE)
    power = spectrum.real.square() + spectrum.imag.square()
    return torch.fft.irfft(power)[..., :_LONGEST], power


def _tracks(waveform: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pitch in octaves above 1 Hz, periodicity, loudness and tilt, each (B, M), every 20 ms of zero-padded speech."""
    padded = nn.functional.pad(waveform, (_WINDOW // 2, _WINDOW))
    windows = padded.unfold(1, _WINDOW, _HOP)[:, : int(frames.max())]
    shape = torch.hann_window(_WINDOW, device=waveform.device)
    correlation, power = _correlate(windows * shape)
    own, _ = _correlate(shape)
    searched = correlation[..., _SHORTEST:] / (correlation[..., :1] + 1e-9) / (own / own[0])[_SHORTEST:]
    lags = torch.arange(_SHORTEST, _LONGEST, device=waveform.device)
    # A hundredth an octave for longer lags, against errors of an octave downwards.
    periodicity, best = (searched - 0.01 * (lags / _SHORTEST).log2()).max(-1)
    pitch = (16_000 / (best + _SHORTEST)).log2()
    loudness = (windows.square().mean(-1) + 1e-8).log10()
    below = power.shape[-1] // 8
    tilt = (power[..., :below].sum(-1) + 1e-8).log10() - (power[..., below:].sum(-1) + 1e-8).log10()
    return pitch, periodicity, loudness, tilt


def _moments(track: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B,) of what the mask holds; 0 where it holds nothing."""
    count = mask.sum(1).clamp(min=1)
    mean = (track * mask).sum(1) / count
    return mean, (((track - mean[:, None]) * mask).square().sum(1) / count).sqrt()


def _percentiles(track: Tensor, mask: Tensor) -> list[Tensor]:
    """Tenth, median and ninetieth percentile (B,) of what the mask holds."""
    wanted = torch.tensor([0.1, 0.5, 0.9], device=track.device)
    return list(track.masked_fill(~mask, torch.nan).nanquantile(wanted, dim=1))


def trim_silence(waveform: Tensor, lengths: Tensor, decibels: float = 40.0) -> tuple[Tensor, Tensor]:
    """Cut silence off both ends.

    Args:
        waveform: Samples at 16 kHz, right-padded, shape (B, T).
        lengths: Valid samples, shape (B,).
        decibels: Stretches of 20 ms this far below an utterance's loudest one are silence.

    Returns:
        From the first stretch that is louder to the last, shape (B, T'), zero where padded, and their valid samples.
        What is shorter than two stretches stays as it is.
    """
    hop = 320
    count = lengths // hop
    width = max(1, int(count.max()))
    stretches = nn.functional.pad(waveform, (0, hop))[:, : width * hop].unflatten(1, (width, hop))
    power = stretches.square().mean(2).masked_fill(~length_mask(count, width), -1)
    loud = power >= power.amax(1, keepdim=True) * 10 ** (-decibels / 10)
    first, last = loud.long().argmax(1), width - 1 - loud.flip(1).long().argmax(1)
    kept = count >= 2
    begin = torch.where(kept, first * hop, 0)
    sizes = torch.where(kept, (last + 1) * hop - begin, lengths)
    mask = length_mask(sizes, int(sizes.max()))
    index = (begin[:, None] + torch.arange(mask.shape[1], device=begin.device)).clamp(max=waveform.shape[1] - 1)
    return waveform.gather(1, index) * mask, sizes


@torch.no_grad()
def prosodic_statistics(waveform: Tensor, lengths: Tensor) -> Tensor:
    """Statistics of pitch, loudness and spectral tilt over an utterance.

    They are measured between the silences at both ends, every 20 ms over windows of 48 ms:
    pitch by the highest peak of the normalised autocorrelation between 65 and 500 Hz
    (Boersma 1993), the height of that peak as periodicity, loudness, and tilt as the
    loudness below 1 kHz less that above it.
    Windows are voiced if they are periodic (0.55) and at most 30 dB softer than the
    loudest one; where fewer than five are, the five most periodic ones count.

    Args:
        waveform: Samples at 16 kHz, right-padded, shape (B, T).
        lengths: Valid samples, shape (B,).

    Returns:
        Shape (B, 23). Of voiced windows: percentiles (10, 50, 90), deviation and slope of the pitch in octaves, size
        and deviation of its steps, percentiles of loudness, percentiles and deviation of tilt, mean and deviation of
        periodicity, their share. Of all windows: percentiles, deviation and steps of loudness. Logarithm of the
        seconds. Loudness and tilt are in bels.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        waveform = waveform.float() * length_mask(lengths, waveform.shape[1])
        waveform, lengths = trim_silence(waveform, lengths)
        frames = (lengths + _HOP - 1) // _HOP
        pitch, periodicity, loudness, tilt = _tracks(waveform, frames)
        valid = length_mask(frames, pitch.shape[1])
        loudest = loudness.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
        voiced = valid & (periodicity > 0.55) & (loudness > loudest - 3)
        ranked = periodicity.masked_fill(~valid, -torch.inf).sort(1, descending=True).values
        few = voiced.sum(1, keepdim=True) < 5
        voiced = torch.where(few, valid & (periodicity >= ranked[:, :5][:, -1:]), voiced)
        mean, deviation = _moments(pitch, voiced)
        place = voiced.cumsum(1) - 1
        line = 2 * place / (voiced.sum(1, keepdim=True) - 1).clamp(min=1) - 1
        slope, _ = _moments(line * (pitch - mean[:, None]), voiced)
        step = pitch.diff(dim=1)
        steady = voiced[:, 1:] & voiced[:, :-1] & (step.abs() < 0.3)
        statistics = [
            *_percentiles(pitch, voiced),
            deviation,
            slope,
            _moments(step.abs(), steady)[0],
            _moments(step, steady)[1],
            *_percentiles(loudness, voiced),
            *_percentiles(tilt, voiced),
            _moments(tilt, voiced)[1],
            *_moments(periodicity, voiced),
            voiced.sum(1) / frames,
            *_percentiles(loudness, valid),
            _moments(loudness, valid)[1],
            _moments(loudness.diff(dim=1).abs(), valid[:, 1:])[0],
            (lengths / 16_000).log(),
        ]
        return torch.stack(statistics, 1)


class ProsodyClassifier(nn.Module):
    """Scores of the emotion categories from :func:`prosodic_statistics` alone: so few numbers hardly learn a speaker.

    Args:
        num_emotions: Number of categories.
        hidden_size: Width of the hidden layer.
        dropout: Dropout before the last layer.
        noise: Deviation of the noise on the normalised statistics in training.
    """

    def __init__(self, num_emotions: int, hidden_size: int = 64, dropout: float = 0.4, noise: float = 0.15) -> None:
        super().__init__()
        self.noise = noise
        self.norm = nn.BatchNorm1d(NUM_STATISTICS, affine=False)
        self.layers = nn.Sequential(
            nn.Linear(NUM_STATISTICS, hidden_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_size, num_emotions)
        )

    def forward(self, statistics: Tensor) -> Tensor:
        """Score (B, 23) statistics of utterances as (B, classes)."""
        norm = self.norm
        # One utterance has no spread of its own to be normalised by.
        several = self.training and len(statistics) > 1
        normalised = nn.functional.batch_norm(statistics, norm.running_mean, norm.running_var, training=several)
        if self.training:
            normalised = normalised + self.noise * torch.randn_like(normalised)
        scores: Tensor = self.layers(normalised)
        return scores
