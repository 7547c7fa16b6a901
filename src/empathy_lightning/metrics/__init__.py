"""Functions first, thin torchmetrics classes around them."""

from empathy_lightning.metrics.classification import EmotionConfusion, unweighted_accuracy, weighted_accuracy
from empathy_lightning.metrics.regression import Concordance, concordance

__all__ = ["Concordance", "EmotionConfusion", "concordance", "unweighted_accuracy", "weighted_accuracy"]
