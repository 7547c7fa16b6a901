"""Functions first, and metrics of a task around them.

A metric is a ``torchmetrics.Metric`` with ``update(output, batch)``, the two arguments of
a loss, and a scalar from ``compute()``, NaN where there is nothing to measure: that is
not logged. One of your own needs nothing else; name it by ``class_path`` under
``metrics``.
"""

from torchmetrics import Metric

from empathy_lightning.metrics.calibration import CalibrationError, calibration_bins, calibration_error
from empathy_lightning.metrics.classification import (
    EmotionConfusion,
    MacroF1,
    UnweightedAccuracy,
    WeightedAccuracy,
    confusion_matrix,
    count_labels,
    macro_f1,
    recalls,
    unweighted_accuracy,
    weighted_accuracy,
)
from empathy_lightning.metrics.emotion import emotion_figures
from empathy_lightning.metrics.empathy import LevelAccuracy, LevelMacroF1, RationaleF1
from empathy_lightning.metrics.heard_words import HeardWordErrorRate
from empathy_lightning.metrics.regression import (
    Concordance,
    Pearson,
    RatingError,
    concordance,
    mean_squared_error,
    moments,
    pearson,
)
from empathy_lightning.metrics.text import chrf, distinct, greedy_match
from empathy_lightning.utterance import RATINGS


def emotion_metrics(num_emotions: int) -> dict[str, Metric]:
    """What is measured of an emotion nuance module: how right and how sure the categories are, how near the ratings."""
    found: dict[str, Metric] = {
        "unweighted_accuracy": UnweightedAccuracy(num_emotions),
        "weighted_accuracy": WeightedAccuracy(num_emotions),
        "macro_f1": MacroF1(num_emotions),
        "calibration_error": CalibrationError(),
    }
    for name in RATINGS:
        found[f"concordance_{name}"] = Concordance(name)
    return found


__all__ = [
    "CalibrationError",
    "Concordance",
    "EmotionConfusion",
    "HeardWordErrorRate",
    "LevelAccuracy",
    "LevelMacroF1",
    "MacroF1",
    "Pearson",
    "RatingError",
    "RationaleF1",
    "UnweightedAccuracy",
    "WeightedAccuracy",
    "calibration_bins",
    "calibration_error",
    "chrf",
    "concordance",
    "confusion_matrix",
    "count_labels",
    "distinct",
    "emotion_figures",
    "emotion_metrics",
    "greedy_match",
    "macro_f1",
    "mean_squared_error",
    "moments",
    "pearson",
    "recalls",
    "unweighted_accuracy",
    "weighted_accuracy",
]
