"""What an emotion module ends in: a category and three ratings, read from its embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from empathy_lightning.modules.part_of_checkpoint import part_of_checkpoint


@dataclass
class EmotionEstimate:
    """What was heard in the voice.

    Attributes:
        embedding: Vector for the prompt, shape (B, output_size).
        logits: Scores of the categories, shape (B, classes).
        arousal: Shape (B,), in 0..1; NaN from a module that does not rate.
        valence: As arousal.
        dominance: As arousal.
        layer_weights: Share of each of the encoder's layers in the embedding, shape (B, layers); None from a module
            that does not say.
    """

    embedding: Tensor
    logits: Tensor
    arousal: Tensor
    valence: Tensor
    dominance: Tensor
    layer_weights: Tensor | None = None


class EmotionHeads(nn.Module):
    """Base of the modules that read the speech encoder's layers; linear heads over the embedding that they give."""

    reads = "layers"
    """What its input is: the speech encoder's layers."""

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None = None) -> Self:
        """Load this part alone from a checkpoint folder of a bot or a recogniser, in eval mode.

        Args:
            name_or_path: Folder, or ``user/name`` or ``user/name@revision`` of the Hub.
            revision: Branch, tag or commit on the Hub.

        Raises:
            PretrainedError: If the folder cannot be used, or holds no such part.
        """
        part: Self = part_of_checkpoint(cls, name_or_path, revision)
        return part

    def _add_heads(self, size: int, num_emotions: int, rate_dimensions: bool) -> None:
        """Add the heads over an embedding; they are drawn after what comes before them."""
        self.num_emotions = num_emotions
        self.rate_dimensions = rate_dimensions
        self.categorical_head = nn.Linear(size, num_emotions, bias=False)
        if rate_dimensions:
            self.arousal_head = nn.Linear(size, 1)
            self.valence_head = nn.Linear(size, 1)
            self.dominance_head = nn.Linear(size, 1)

    def _estimate(self, embedding: Tensor, features: Tensor, layer_weights: Tensor) -> EmotionEstimate:
        """What the heads say of features (B, size): the embedding, perhaps with some of it left out."""
        logits = self.categorical_head(features)
        if not self.rate_dimensions:
            unknown = torch.full_like(embedding[:, 0], torch.nan)
            return EmotionEstimate(embedding, logits, unknown, unknown, unknown, layer_weights)
        arousal = self.arousal_head(features)[:, 0].sigmoid()
        valence = self.valence_head(features)[:, 0].sigmoid()
        dominance = self.dominance_head(features)[:, 0].sigmoid()
        return EmotionEstimate(embedding, logits, arousal, valence, dominance, layer_weights)
