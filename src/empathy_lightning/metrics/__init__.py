"""Functions first, thin torchmetrics classes around them."""

from empathy_lightning.metrics.classification import EmotionConfusion, unweighted_accuracy, weighted_accuracy

__all__ = ["EmotionConfusion", "unweighted_accuracy", "weighted_accuracy"]
