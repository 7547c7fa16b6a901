"""Prosody of a waveform: fundamental frequency, energy and speaking rate."""

from __future__ import annotations

import torch
from torch import Tensor


def fundamental_frequency(
    waveform: Tensor, sample_rate: int = 16_000, low: float = 65.0, high: float = 450.0
) -> tuple[Tensor, Tensor]:
    """Fundamental frequency every 10 ms, from the normalised autocorrelation of 50 ms.

    Of the lags whose peak is within 10 % of the highest, the shortest counts, which
    avoids errors of an octave downwards (as in Boersma 1993, simplified).

    Args:
        waveform: Shape (T,).
        sample_rate: In Hz.
        low: Lowest frequency in Hz.
        high: Highest frequency in Hz.

    Returns:
        Frequencies in Hz (frames,), and how periodic each frame is, in 0..1.
    """
    size, hop = sample_rate // 20, sample_rate // 100
    frames = waveform.float().unfold(0, size, hop)
    frames = (frames - frames.mean(1, keepdim=True)) * torch.hann_window(size)
    window = torch.hann_window(size)

    def _autocorrelation(signal: Tensor) -> Tensor:
        # Over twice the length, since the transform would else wrap the signal's end to its beginning.
        return torch.fft.irfft(torch.fft.rfft(signal, 2 * size).abs().square())[..., :size]

    correlation = _autocorrelation(frames)
    # Without the window's own, which falls with the lag, long periods would look weak (Boersma 1993).
    of_window = _autocorrelation(window) / window.square().sum()
    correlation = correlation / correlation[:, :1].clamp(min=1e-9) / of_window
    first, last = round(sample_rate / high), round(sample_rate / low)
    searched = correlation[:, first : last + 1]
    inner = searched[:, 1:-1]
    peak = (inner >= searched[:, :-2]) & (inner >= searched[:, 2:])
    heights = torch.where(peak, inner, 0.0)
    best = heights.amax(1)
    chosen = (heights >= 0.9 * best[:, None]).int().argmax(1)
    # Peaks are looked for from the second lag on, which has a neighbour on either side.
    return sample_rate / (chosen + first + 1), best.clamp(0, 1)


def pitch_track(waveform: Tensor, sample_rate: int = 16_000) -> Tensor:
    """Fundamental frequency in Hz every 10 ms, the first at 25 ms; NaN where there is no voice.

    Frames count as voiced if their power is above 2 % of the loudest and they are periodic.

    Args:
        waveform: Shape (T,), at least 0.1 s long.
        sample_rate: In Hz.
    """
    frequency, periodicity = fundamental_frequency(waveform, sample_rate)
    return frequency.where(_loud(waveform, sample_rate)[1] & (periodicity > 0.5), torch.nan)


def _loud(waveform: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Power of each frame, and whether it is above 2 % of the loudest."""
    power = waveform.unfold(0, sample_rate // 20, sample_rate // 100).square().mean(1)
    return power, power > 0.02 * power.max()


def prosody(waveform: Tensor, words: int, sample_rate: int = 16_000) -> dict[str, float]:
    """Mean and range of the fundamental frequency and of the energy, and the speaking rate.

    Frames count as voiced as in :func:`pitch_track`; silence at the ends is not speaking time.

    Args:
        waveform: Shape (T,), at least 0.1 s long.
        words: Number of words said.
        sample_rate: In Hz.

    Returns:
        ``f0_mean`` in Hz, ``f0_range`` (10th to 90th percentile) in Hz, ``energy`` and ``energy_range`` (mean, and 10th
        to 90th percentile, of the loud frames' power) in dB, ``rate`` in words per second.

    Raises:
        ValueError: If the waveform is shorter than 0.1 s, or holds no voice.
    """
    if len(waveform) < sample_rate // 10 or waveform.abs().max() == 0:
        raise ValueError("prosody needs at least 0.1 s of sound")
    track = pitch_track(waveform, sample_rate)
    power, loud = _loud(waveform, sample_rate)
    voiced = track[~track.isnan()]
    if not len(voiced):
        raise ValueError("prosody needs voiced sound")
    active = loud.nonzero()[:, 0]
    levels = 10 * power[loud].log10()
    return {
        "f0_mean": float(voiced.mean()),
        "f0_range": float(voiced.quantile(0.9) - voiced.quantile(0.1)),
        "energy": float(10 * power[loud].mean().log10()),
        "energy_range": float(levels.quantile(0.9) - levels.quantile(0.1)),
        "rate": words / (float(active[-1] - active[0] + 1) / 100),
    }
