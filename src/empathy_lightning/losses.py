"""Auxiliary losses: each an ``nn.Module`` with ``forward(output, batch)`` to a scalar.

A loss of your own needs nothing else; name it by ``class_path`` under
``auxiliary_losses``. Utterances without the label count for nothing, and a batch
without any gives a zero that is still connected to the graph, so that every
process of a distributed run has the same gradients to exchange.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from empathy_lightning.batch import MISSING, SpeechBatch
from empathy_lightning.models import EmpatheticOutput
from empathy_lightning.modules.emotion_nuance import EmotionEstimate
from empathy_lightning.utterance import RATINGS


def _estimate(output: EmpatheticOutput) -> EmotionEstimate:
    if output.emotion is None:
        raise ValueError("this loss needs a model with an emotion_nuance module")
    return output.emotion


class CategoricalLoss(nn.Module):
    """Cross-entropy of the emotion categories (RE-LLM's categorical loss; FreezeEmpath's auxiliary loss).

    Args:
        label_smoothing: Share of probability spread over all categories.
        class_weights: One weight per category, or None for equal ones.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", None if class_weights is None else torch.tensor(class_weights), persistent=False)
        self.weight: Tensor | None

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the labelled utterances, zero if there are none."""
        logits = _estimate(output).logits.float()
        if not (batch.emotion != MISSING).any():
            return logits.sum() * 0.0
        return nn.functional.cross_entropy(
            logits, batch.emotion, self.weight, ignore_index=MISSING, label_smoothing=self.label_smoothing
        )


class RatingLoss(nn.Module):
    """Mean squared error of arousal, valence and dominance over the rated ones (RE-LLM's dimensional loss)."""

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over utterances and dimensions that have a rating, zero if none has."""
        estimate = _estimate(output)
        total, count = estimate.embedding.float().sum() * 0.0, 0
        for name in RATINGS:
            predicted, target = getattr(estimate, name).float(), getattr(batch, name)
            rated = target.isfinite()
            total = total + (predicted[rated] - target[rated]).square().sum() + predicted.sum() * 0.0
            count += int(rated.sum())
        return total / max(1, count)


class ConcordanceLoss(nn.Module):
    """One minus the concordance correlation coefficient (Lin 1989), averaged over the rated dimensions."""

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the dimensions with at least two ratings in the batch, zero if there are none."""
        estimate = _estimate(output)
        total, count = estimate.embedding.float().sum() * 0.0, 0
        for name in RATINGS:
            predicted, target = getattr(estimate, name).float(), getattr(batch, name)
            rated = target.isfinite()
            total = total + predicted.sum() * 0.0
            if rated.sum() < 2:
                continue
            x, y = predicted[rated], target[rated]
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            spread = x.var(unbiased=False) + y.var(unbiased=False) + (x.mean() - y.mean()).square()
            total = total + 1 - 2 * covariance / spread.clamp(min=1e-8)
            count += 1
        return total / max(1, count)
