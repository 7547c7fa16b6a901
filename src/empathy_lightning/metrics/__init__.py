"""Functions first, thin torchmetrics classes around them."""

from empathy_lightning.metrics.classification import EmotionConfusion, unweighted_accuracy, weighted_accuracy
from empathy_lightning.metrics.regression import Concordance, concordance
from empathy_lightning.metrics.text import chrf, distinct, greedy_match

__all__ = [
    "Concordance",
    "EmotionConfusion",
    "chrf",
    "concordance",
    "distinct",
    "greedy_match",
    "unweighted_accuracy",
    "weighted_accuracy",
]
