"""EPITOME's second loss: which words of a reply are the reason for its level."""

from __future__ import annotations

from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.outputs import EmpathyOutput


class RationaleLoss(nn.Module):
    """Cross-entropy of each token of a reply being part of the rationale or not (Sharma et al. 2020)."""

    def forward(self, output: EmpathyOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the tokens of all replies, padding left out: a scalar."""
        logits = output.estimate.rationale_logits[output.mask].float()
        return nn.functional.cross_entropy(logits, output.rationales[output.mask].long())
