"""Functions first, and metrics of a task around them.

A metric is a ``torchmetrics.Metric`` with ``update(output, batch)``, the two arguments of
a loss, and a scalar from ``compute()``, NaN where there is nothing to measure: that is
not logged. One of your own needs nothing else; name it by ``class_path`` under
``metrics``.
"""

from torchmetrics import Metric

from empathy_lightning.metrics.classification import (
    EmotionConfusion,
    UnweightedAccuracy,
    WeightedAccuracy,
    confusion_matrix,
    unweighted_accuracy,
    weighted_accuracy,
)
from empathy_lightning.metrics.heard_words import HeardWordErrorRate
from empathy_lightning.metrics.regression import Concordance, concordance, moments
from empathy_lightning.metrics.text import chrf, distinct, greedy_match
from empathy_lightning.utterance import RATINGS


def emotion_metrics(num_emotions: int) -> dict[str, Metric]:
    """What is measured of an emotion nuance module: accuracy of the categories, concordance of the ratings."""
    found: dict[str, Metric] = {
        "unweighted_accuracy": UnweightedAccuracy(num_emotions),
        "weighted_accuracy": WeightedAccuracy(num_emotions),
    }
    for name in RATINGS:
        found[f"concordance_{name}"] = Concordance(name)
    return found


__all__ = [
    "Concordance",
    "EmotionConfusion",
    "HeardWordErrorRate",
    "UnweightedAccuracy",
    "WeightedAccuracy",
    "chrf",
    "concordance",
    "confusion_matrix",
    "distinct",
    "emotion_metrics",
    "greedy_match",
    "moments",
    "unweighted_accuracy",
    "weighted_accuracy",
]
