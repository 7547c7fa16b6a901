"""The emotion of an utterance from means and deviations of all layers, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from empathy_lightning.modules.emotion_heads import EmotionEstimate, EmotionHeads
from empathy_lightning.modules.emotion_nuance import masked_statistics

PRIOR = 2
"""Recordings of a speaker that count as much as what is known of nobody in particular."""


class Standardisation(nn.Module):
    """Each dimension less its mean, over its deviation, both of all rows that were met in training.

    Training, too, takes what was met so far and not the batch alone: small batches, or such as hold mostly one class,
    do no harm.

    Args:
        size: Dimensions.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        # In double, since float32 counts no further than 16 million by ones.
        self.register_buffer("count", torch.zeros((), dtype=torch.double))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.count: Tensor
        self.mean: Tensor
        self.variance: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """Standardise rows (B, size)."""
        if self.training:
            self._meet(rows.detach())
        return self.of(rows)

    def of(self, rows: Tensor) -> Tensor:
        """Rows (..., size) by what was met so far."""
        return (rows - self.mean) / (self.variance + 1e-5).sqrt()

    def _meet(self, rows: Tensor) -> None:
        """Merge the moments of new rows with those before (Chan et al. 1979)."""
        share = (len(rows) / (self.count + len(rows))).to(rows.dtype)
        change = rows.mean(0) - self.mean
        within = (1 - share) * self.variance + share * rows.var(0, correction=0)
        self.variance = within + share * (1 - share) * change.square()
        self.mean = self.mean + share * change
        self.count = self.count + len(rows)


def layer_statistics(layers: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean and deviation over time of every layer.

    Args:
        layers: Each (B, T, D); or one (B, 2 L D), which was made here before.
        mask: Shape (B, T), True where valid.

    Returns:
        Shape (B, 2 L D).
    """
    if layers[0].ndim == 2:
        return layers[0]
    return torch.cat([masked_statistics(layer.float(), mask) for layer in layers], 1)


@dataclass
class Voice:
    """What is known of a speaker's voice, whatever was felt.

    Attributes:
        mean: Of the statistics of the recordings that were heard, shape (D,).
        count: Recordings.
    """

    mean: Tensor
    count: int = 0

    def hear(self, row: Tensor) -> None:
        """One more recording's statistics (D,)."""
        self.count += 1
        self.mean = self.mean + (row - self.mean) / self.count


class LayerStatistics(EmotionHeads):
    """Emotion embedding and heads from the mean and the deviation over time of every layer, side by side.

    What a linear classifier of emotions reads in a frozen recogniser, in the place of
    :class:`.emotion_nuance.EmotionNuance`: no layer is mixed with another before it is read, and each dimension is
    standardised by itself, so that a few loud ones do not drown the others. Both heads read the embedding.

    Where a speaker was enrolled by some recordings (:meth:`enrol`; no label is needed), the speaker's mean is taken
    off: what is left is how the voice differs from itself. Who is enrolled is not kept in a folder.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the emotion embedding, the language model's.
        num_layers: Layers of the encoder.
        num_emotions: Number of categories.
        hidden_size: Width of a layer of rectified units before the embedding; 0 for none, so that all is linear.
        dropout: Share of the statistics that is left out in training.
        rate_dimensions: Have the heads for arousal, valence and dominance; without them the ratings are NaN.
    """

    knows_speakers = True
    """Whether it is told who speaks."""

    digest = staticmethod(layer_statistics)
    """All that it reads in the layers: what is to be kept of them where they are encoded once."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_layers: int,
        num_emotions: int = 5,
        hidden_size: int = 0,
        dropout: float = 0.5,
        rate_dimensions: bool = True,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.num_layers = num_layers
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.voices: dict[str, Voice] = {}
        width = 2 * num_layers * input_size
        self.standardisation = Standardisation(width)
        self.project: nn.Module = nn.Linear(width, output_size)
        if hidden_size:
            hidden = nn.Linear(width, hidden_size)
            self.project = nn.Sequential(hidden, nn.ReLU(), nn.Linear(hidden_size, output_size))
        self._add_heads(output_size, num_emotions, rate_dimensions)

    def enrol(self, layers: Sequence[Tensor], mask: Tensor, speakers: Sequence[str]) -> None:
        """Hear recordings to know their speakers' voices; as :meth:`forward`, with the name of each row's speaker."""
        for speaker, row in zip(speakers, layer_statistics(layers, mask).detach(), strict=True):
            if speaker:
                self.voices.setdefault(speaker, Voice(torch.zeros_like(row))).hear(row)

    def forward(self, layers: Sequence[Tensor], mask: Tensor, speakers: Sequence[str] = ()) -> EmotionEstimate:
        """Estimate the emotion of each utterance.

        Args:
            layers: Raw outputs of the encoder's blocks, each (B, T, input_size), or their :func:`layer_statistics`.
            mask: Shape (B, T), True where valid.
            speakers: Of each row, "" where unknown; empty where nobody said.
        """
        rows = self.standardisation(layer_statistics(layers, mask))
        if self.voices and speakers:
            rows = rows - torch.stack([self._own(speaker, rows[0]) for speaker in speakers])
        features = nn.functional.dropout(rows, self.dropout, self.training)
        embedding = self.project(features)
        return self._estimate(embedding, embedding, self.layer_shares().expand(len(rows), -1))

    @torch.no_grad()
    def layer_shares(self) -> Tensor:
        """Each layer's share of the squared weights that read the standardised statistics, shape (num_layers,)."""
        first = next(module for module in self.project.modules() if isinstance(module, nn.Linear))
        by_layer = first.weight.float().square().sum(0).view(self.num_layers, -1).sum(1)
        return by_layer / by_layer.sum()

    def _own(self, speaker: str, like: Tensor) -> Tensor:
        """How a voice differs from all others, (D,); the less, the less was heard of it."""
        voice = self.voices.get(speaker)
        if voice is None:
            return torch.zeros_like(like)
        share = voice.count / (voice.count + PRIOR)
        return share * self.standardisation.of(voice.mean.to(like))
