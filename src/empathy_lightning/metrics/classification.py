"""Accuracy of emotion categories."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.outputs import EmpatheticOutput, estimate_of


def confusion_matrix(logits: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Counts of reference and prediction; unlabelled utterances are left out.

    Args:
        logits: Shape (B, classes).
        target: Shape (B,), negative for no label.
        num_classes: Number of categories.

    Returns:
        Shape (classes, classes), rows by reference, columns by prediction.
    """
    labelled = target >= 0
    if not labelled.any():
        return torch.zeros(num_classes, num_classes, dtype=torch.long, device=target.device)
    counts: Tensor = multiclass_confusion_matrix(logits.argmax(-1)[labelled], target[labelled], num_classes)
    return counts


def unweighted_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the classes present in the reference (UA, balanced accuracy).

    Args:
        confusion: Counts of :func:`confusion_matrix`.

    Returns:
        Scalar in 0..1; NaN without any reference.

    Example:
        >>> unweighted_accuracy(torch.tensor([[2, 0, 0], [1, 1, 0], [0, 0, 0]]))
        tensor(0.7500)
    """
    counts = confusion.sum(1)
    recall = confusion.diagonal()[counts > 0] / counts[counts > 0]
    return recall.mean()


def weighted_accuracy(confusion: Tensor) -> Tensor:
    """Share of utterances recognised (WA, plain accuracy) from counts as in :func:`unweighted_accuracy`."""
    return confusion.diagonal().sum() / confusion.sum()


class EmotionConfusion(Metric):
    """Base of the metrics over categories: counts pooled over batches and processes.

    Args:
        num_classes: Number of categories.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.confusion: Tensor

    def update(self, output: EmpatheticOutput, batch: SpeechBatch) -> None:
        """Count the labelled utterances of a batch."""
        self.confusion += confusion_matrix(estimate_of(output).logits, batch.emotion, self.num_classes)

    def compute(self) -> Tensor:
        """Counts, shape (classes, classes), rows by reference."""
        return self.confusion


class UnweightedAccuracy(EmotionConfusion):
    """Mean recall of the categories that occur; arguments as of the base."""

    def compute(self) -> Tensor:
        """In 0..1; NaN without any label."""
        return unweighted_accuracy(self.confusion)


class WeightedAccuracy(EmotionConfusion):
    """Share of the utterances whose category is recognised; arguments as of the base."""

    def compute(self) -> Tensor:
        """In 0..1; NaN without any label."""
        return weighted_accuracy(self.confusion)
