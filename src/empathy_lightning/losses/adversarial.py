"""Discriminators that learn to tell a vocoder's speech from recordings, and what they teach it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.losses.spectral import FLOOR, magnitude
from empathy_lightning.outputs import VocoderOutput

Heard = tuple[Tensor, list[Tensor]]
"""Scores of a discriminator, and the features of its layers."""


class Discriminator(nn.Module):
    """Convolutions over a picture of the waveform.

    Args:
        layers: One after the other; the last gives the scores.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def picture(self, waveform: Tensor) -> Tensor:
        """What is looked at (B, 1, H, W), of waveforms (B, T)."""
        raise NotImplementedError

    def forward(self, waveform: Tensor) -> Heard:
        """Scores, high for recordings, and features, of waveforms (B, T)."""
        seen = self.picture(waveform)
        features = []
        for layer in self.layers[:-1]:
            seen = nn.functional.leaky_relu(layer(seen), 0.1)
            features.append(seen)
        return self.layers[-1](seen), features


class PeriodDiscriminator(Discriminator):
    """Looks at samples that are a period apart (HiFi-GAN, Kong et al. 2020).

    Args:
        period: In samples.
        channels: Of the first layer; the last has four times as many.
    """

    def __init__(self, period: int, channels: int) -> None:
        widths = (1, channels, 2 * channels, 4 * channels)
        layers = [nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in pairwise(widths)]
        super().__init__([*layers, nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))])
        self.period = period

    def picture(self, waveform: Tensor) -> Tensor:
        """Rows of one period each, shape (B, 1, rows, period)."""
        rows = -(-waveform.shape[1] // self.period)
        whole = nn.functional.pad(waveform, (0, rows * self.period - waveform.shape[1]))
        return whole.reshape(len(waveform), 1, rows, self.period)


class SpectrumDiscriminator(Discriminator):
    """Looks at the spectrum (UnivNet, Jang et al. 2021).

    Args:
        n_fft: Samples of a window.
        channels: Of every layer.
    """

    def __init__(self, n_fft: int, channels: int) -> None:
        widths = (1, channels, channels, channels)
        layers = [nn.Conv2d(a, b, (5, 3), (2, 1), (2, 1)) for a, b in pairwise(widths)]
        super().__init__([*layers, nn.Conv2d(channels, 1, 3, padding=1)])
        self.n_fft = n_fft

    def picture(self, waveform: Tensor) -> Tensor:
        """Log magnitudes, shape (B, 1, bins, frames)."""
        return magnitude(waveform, self.n_fft).clamp(min=FLOOR).log()[:, None]


class AdversarialLoss(nn.Module):
    """What discriminators find in the vocoder's speech, and what they still confuse: all learn in one step.

    Hinge losses, and the distance between the features of recording and speech. The discriminators are trained as
    part of the loss and are in no exported folder.

    Args:
        periods: Of the period discriminators, in samples.
        sizes: Windows of the spectrum discriminators, in samples.
        channels: Width of both.
        feature_weight: Of the distance between features.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        sizes: Sequence[int] = (256, 512, 1024),
        channels: int = 16,
        feature_weight: float = 2.0,
    ) -> None:
        super().__init__()
        self.feature_weight = feature_weight
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, channels) for period in periods)
        self.discriminators.extend(SpectrumDiscriminator(size, channels) for size in sizes)

    def forward(self, output: VocoderOutput, batch: SpeechBatch) -> Tensor:
        """A scalar; reads ``spoken`` and ``recorded`` alone."""
        losses: list[Tensor] = []
        for discriminator in self.discriminators:
            losses += self._losses(discriminator, output)
        return torch.stack(losses).sum() / len(self.discriminators)

    def _losses(self, discriminator: nn.Module, output: VocoderOutput) -> Iterator[Tensor]:
        """Of the discriminator, then those of the vocoder."""
        true_scores, true_features = discriminator(output.recorded)
        # What teaches the discriminator must not reach the vocoder.
        scores, _ = discriminator(output.spoken.detach())
        yield nn.functional.relu(1 - true_scores).mean() + nn.functional.relu(1 + scores).mean()
        # What teaches the vocoder must not teach the discriminator to be content.
        weights = {name: weight.detach() for name, weight in discriminator.named_parameters()}
        scores, features = functional_call(discriminator, weights, (output.spoken,))
        yield -scores.mean()
        for found, true in zip(features, true_features, strict=True):
            yield self.feature_weight * (found - true.detach()).abs().mean() / len(features)
