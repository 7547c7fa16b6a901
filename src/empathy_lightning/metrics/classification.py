"""Accuracy of emotion categories."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.outputs import EmpatheticOutput, estimate_of


def count_labels(target: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Counts of reference and prediction; utterances without a reference are left out.

    Args:
        target: Category ids, shape (N,), negative for no label.
        predicted: Category ids, shape (N,), negative where the answer names none.
        num_classes: Number of categories.

    Returns:
        Shape (classes, classes + 1), rows by reference, columns by prediction; the last column is of the answers that
        name none.
    """
    labelled = target >= 0
    # One count over numbers that stand for a cell each, instead of one for each cell.
    columns = torch.where(predicted < 0, num_classes, predicted)[labelled]
    cells = target[labelled] * (num_classes + 1) + columns
    return torch.bincount(cells, minlength=num_classes * (num_classes + 1)).view(num_classes, num_classes + 1)


def confusion_matrix(logits: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """Counts (classes, classes) of the likeliest categories; see :func:`count_labels`.

    Args:
        logits: Shape (N, classes).
        target: Shape (N,), negative for no label.
        num_classes: Number of categories.
    """
    return count_labels(target, logits.argmax(-1), num_classes)[:, :-1]


def recalls(confusion: Tensor) -> Tensor:
    """Share of each reference class that is recognised, shape (..., classes); NaN of classes that do not occur.

    Args:
        confusion: Counts of :func:`count_labels` or :func:`confusion_matrix`, shape (..., classes, columns).
    """
    return _right(confusion) / confusion.sum(-1)


def unweighted_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the classes present in the reference (UA, balanced accuracy).

    Args:
        confusion: Counts as of :func:`recalls`.

    Returns:
        In 0..1, shape (...); NaN without any reference.

    Example:
        >>> unweighted_accuracy(torch.tensor([[2, 0, 0], [1, 1, 0], [0, 0, 0]]))
        tensor(0.7500)
    """
    return recalls(confusion).nanmean(-1)


def weighted_accuracy(confusion: Tensor) -> Tensor:
    """Share of utterances recognised (WA, plain accuracy) from counts as in :func:`unweighted_accuracy`."""
    return _right(confusion).sum(-1) / confusion.sum((-2, -1))


def precisions(confusion: Tensor) -> Tensor:
    """Share of the answers of each class that are right, shape (..., classes); NaN of classes never answered."""
    return _right(confusion) / _answered(confusion)


def f1_scores(confusion: Tensor) -> Tensor:
    """Harmonic mean of recall and precision of each reference class, shape (..., classes); NaN of absent ones.

    Args:
        confusion: Counts as of :func:`recalls`.
    """
    total = confusion.sum(-1)
    # Twice the right ones over both sums is the harmonic mean, and defined where a class is never the answer.
    f1 = 2 * _right(confusion) / (total + _answered(confusion))
    return f1.where(total > 0, torch.nan)


def macro_f1(confusion: Tensor) -> Tensor:
    """Mean F1 over the classes present in the reference, from counts as in :func:`unweighted_accuracy`.

    scikit-learn's ``f1_score(average="macro")`` also averages over classes that are only predicted, each with 0, unless
    it is given the ``labels``.
    """
    return f1_scores(confusion).nanmean(-1)


def _right(confusion: Tensor) -> Tensor:
    return confusion.diagonal(dim1=-2, dim2=-1)


def _answered(confusion: Tensor) -> Tensor:
    """How often each class is the answer."""
    return confusion[..., : confusion.shape[-2]].sum(-2)


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


class MacroF1(EmotionConfusion):
    """Mean F1 of the categories that occur; arguments as of the base."""

    def compute(self) -> Tensor:
        """In 0..1; NaN without any label."""
        return macro_f1(self.confusion)
