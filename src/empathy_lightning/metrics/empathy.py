"""How well levels of empathy are recognised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.metrics.classification import EmotionConfusion, confusion_matrix, weighted_accuracy

_LEVELS = 3


class LevelAccuracy(EmotionConfusion):
    """Share of the replies whose level is recognised."""

    def __init__(self) -> None:
        super().__init__(_LEVELS)

    def update(self, output: Any, batch: SpeechBatch) -> None:
        """Count the pairs of a batch; the output is a :class:`.outputs.EmpathyOutput`."""
        self.confusion += confusion_matrix(output.estimate.logits, output.levels, _LEVELS)

    def compute(self) -> Tensor:
        """In 0..1."""
        return weighted_accuracy(self.confusion)


class LevelMacroF1(LevelAccuracy):
    """Mean F1 of the levels that occur in the reference."""

    def compute(self) -> Tensor:
        """In 0..1."""
        occurs = self.confusion.sum(1) > 0
        both = self.confusion.sum(0) + self.confusion.sum(1)
        return (2 * self.confusion.diagonal()[occurs] / both[occurs]).mean()


class RationaleF1(LevelAccuracy):
    """F1 of the tokens that are part of a rationale, over those of all replies."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(2, 2, dtype=torch.long), dist_reduce_fx="sum")
        self.counts: Tensor

    def update(self, output: Any, batch: SpeechBatch) -> None:
        """Count the tokens of a batch."""
        target = output.rationales[output.mask].long()
        self.counts += confusion_matrix(output.estimate.rationale_logits[output.mask], target, 2)

    def compute(self) -> Tensor:
        """In 0..1; NaN where no token is part of one."""
        both = self.counts.sum(0)[1] + self.counts.sum(1)[1]
        return 2 * self.counts[1, 1] / both
