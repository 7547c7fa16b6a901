"""Whether a classifier is as often right as it says."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.outputs import EmpatheticOutput, estimate_of

BINS = 15
"""Equal parts of the confidences 0..1 (Guo et al. 2017, arXiv 1706.04599)."""


def calibration_bins(probabilities: Tensor, target: Tensor, bins: int = BINS) -> Tensor:
    """What :func:`calibration_error` needs, summed over utterances, so that batches and processes add up.

    Args:
        probabilities: Shape (N, classes), each row summing to 1.
        target: Category ids, shape (N,), negative for no label; those are left out.
        bins: Number of parts.

    Returns:
        Shape (bins, 3), in double precision: utterances, sum of their confidences, how many are right. A confidence is
        the highest probability; the upper end of a part belongs to it.
    """
    labelled = target >= 0
    confidence, predicted = probabilities[labelled].double().max(-1)
    rows = (confidence * bins).ceil().long().clamp(1, bins) - 1
    right = (predicted == target[labelled]).double()
    found = torch.zeros(bins, 3, dtype=torch.float64, device=probabilities.device)
    return found.index_add(0, rows, torch.stack([torch.ones_like(confidence), confidence, right], 1))


def calibration_error(bins: Tensor) -> Tensor:
    """Expected calibration error: mean distance of accuracy and confidence, part by part.

    Args:
        bins: Sums of :func:`calibration_bins`.

    Returns:
        Scalar in 0..1; NaN without any label.
    """
    count, confidence, right = bins.T
    return (confidence - right).abs().sum() / count.sum()


class CalibrationError(Metric):
    """Expected calibration error of the classifier, pooled over batches and processes."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("bins", torch.zeros(BINS, 3, dtype=torch.float64), dist_reduce_fx="sum")
        self.bins: Tensor

    def update(self, output: EmpatheticOutput, batch: SpeechBatch) -> None:
        """Count the labelled utterances of a batch."""
        self.bins += calibration_bins(estimate_of(output).logits.float().softmax(-1), batch.emotion)

    def compute(self) -> Tensor:
        """In 0..1; NaN without any label."""
        return calibration_error(self.bins).float()
