"""Accuracy of emotion categories."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix


def unweighted_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the classes present in the reference (UA, balanced accuracy).

    Args:
        confusion: Counts, shape (classes, classes), rows by reference, columns by prediction.

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
    """Confusion matrix of the categories, pooled over batches and processes; unlabelled utterances are left out.

    Args:
        num_classes: Number of categories.
    """

    full_state_update = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        self.confusion: Tensor

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits (B, classes), targets (B,) with -100 for no label."""
        labelled = target >= 0
        if labelled.any():
            predicted = logits.argmax(-1)[labelled]
            self.confusion += multiclass_confusion_matrix(predicted, target[labelled], self.num_classes)

    def compute(self) -> Tensor:
        """Counts, shape (classes, classes), rows by reference."""
        return self.confusion
