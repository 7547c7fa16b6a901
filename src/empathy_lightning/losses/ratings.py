"""Losses over arousal, valence and dominance: squared error, or disagreement in the sense of Lin."""

from __future__ import annotations

from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.losses.estimate import estimate_of
from empathy_lightning.models import EmpatheticOutput
from empathy_lightning.utterance import RATINGS


class RatingLoss(nn.Module):
    """Mean squared error of arousal, valence and dominance over the rated ones (RE-LLM's dimensional loss)."""

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over utterances and dimensions that have a rating, zero if none has."""
        estimate = estimate_of(output)
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
        estimate = estimate_of(output)
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
