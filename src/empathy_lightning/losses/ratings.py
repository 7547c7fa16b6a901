"""Losses over arousal, valence and dominance: squared error, or disagreement in the sense of Lin."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.outputs import EmpatheticOutput, estimate_of
from empathy_lightning.utterance import RATINGS


def _rated(output: EmpatheticOutput, batch: SpeechBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Predictions and targets of each dimension, of the utterances that are rated in it.

    Raises:
        InputError: If the model does not rate.
    """
    estimate = estimate_of(output)
    for name in RATINGS:
        predicted, target = getattr(estimate, name).float(), getattr(batch, name)
        if predicted.isnan().all() and estimate.embedding.isfinite().all():
            raise InputError("a loss over ratings needs an emotion_nuance module with rate_dimensions: true")
        rated = target.isfinite()
        yield predicted[rated], target[rated]


class RatingLoss(nn.Module):
    """Mean squared error of arousal, valence and dominance over the rated ones (RE-LLM's dimensional loss)."""

    needs = RATINGS

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over utterances and dimensions that have a rating, zero if none has."""
        # Zero, and connected to what trains.
        total = estimate_of(output).embedding.float().sum() * 0.0
        count = 0
        for predicted, target in _rated(output, batch):
            total = total + (predicted - target).square().sum()
            count += len(target)
        return total / max(1, count)


class ConcordanceLoss(nn.Module):
    """One minus the concordance correlation coefficient (Lin 1989), averaged over the rated dimensions."""

    needs = RATINGS

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the dimensions with at least two ratings in the batch, zero if there are none."""
        total = estimate_of(output).embedding.float().sum() * 0.0
        count = 0
        for x, y in _rated(output, batch):
            # The sum of none is zero too, and connected to the head.
            total = total + x.sum() * 0.0
            if len(y) < 2:
                continue
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            spread = x.var(unbiased=False) + y.var(unbiased=False) + (x.mean() - y.mean()).square()
            # There is none where all are the same.
            total = total + 1 - 2 * covariance / spread.clamp(min=1e-8)
            count += 1
        return total / max(1, count)
