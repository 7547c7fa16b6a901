"""Losses over the emotion categories: one label, one label with hard cases first, or the raters' votes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import MISSING, SpeechBatch
from empathy_lightning.outputs import EmpatheticOutput, estimate_of


class CategoricalLoss(nn.Module):
    """Cross-entropy of the emotion categories (RE-LLM's categorical loss; FreezeEmpath's auxiliary loss).

    Args:
        label_smoothing: Share of probability spread over all categories.
        class_weights: One weight per category, or None for equal ones.
    """

    needs = ("emotion",)

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", None if class_weights is None else torch.tensor(class_weights), persistent=False)
        self.weight: Tensor | None

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the labelled utterances, by their weights, zero if there are none."""
        logits = estimate_of(output).logits.float()
        labels = batch.emotion[batch.emotion != MISSING]
        weights = torch.ones_like(labels) if self.weight is None else self.weight[labels]
        # A mean over no weight at all would be NaN.
        if not weights.any():
            return logits.sum() * 0.0
        return nn.functional.cross_entropy(
            logits, batch.emotion, self.weight, ignore_index=MISSING, label_smoothing=self.label_smoothing
        )


class FocalLoss(nn.Module):
    """Cross-entropy that turns to what is still hard (Lin et al. 2017, arXiv 1708.02002, equation 5).

    Args:
        focus: Exponent gamma of (1 - p), 0 or more; 0 is plain cross-entropy (paper: 2).
        class_weights: The paper's alpha, one per category, or None for ones.
    """

    needs = ("emotion",)

    def __init__(self, focus: float = 2.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if focus < 0:
            raise ValueError(f"focus {focus} must not be negative")
        self.focus = focus
        self.register_buffer("weight", None if class_weights is None else torch.tensor(class_weights), persistent=False)
        self.weight: Tensor | None

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the labelled utterances, zero if there are none."""
        logits = estimate_of(output).logits.float()
        labelled = batch.emotion != MISSING
        targets = batch.emotion[labelled]
        log_probability = logits[labelled].log_softmax(-1).gather(1, targets[:, None])[:, 0]
        # At p = 1 the derivative of 0 ** gamma would be NaN for gamma below 1.
        doubt = (-torch.expm1(log_probability)).clamp(min=1e-6)
        losses = -(doubt**self.focus) * log_probability
        if self.weight is not None:
            losses = losses * self.weight[targets]
        return losses.sum() / max(1, len(targets)) + logits.sum() * 0.0


class SoftLabelLoss(nn.Module):
    """Cross-entropy to the distribution of the raters' votes instead of to their majority."""

    needs = ("emotion_votes",)

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the utterances with votes for the task's categories, zero if there are none."""
        logits = estimate_of(output).logits.float()
        total = batch.emotion_votes.sum(1, keepdim=True)
        voted = total[:, 0] > 0
        shares = batch.emotion_votes[voted] / total[voted]
        return -(shares * logits[voted].log_softmax(-1)).sum() / max(1, len(shares)) + logits.sum() * 0.0
