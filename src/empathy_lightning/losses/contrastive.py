"""Utterances of one emotion should have like embeddings, whoever speaks and whatever is said."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import MISSING, SpeechBatch
from empathy_lightning.outputs import EmpatheticOutput, estimate_of


class SupervisedContrastiveLoss(nn.Module):
    """Supervised contrastive loss over emotion embeddings (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    Unlabelled utterances take part as ones to keep away from. In a distributed run
    each process compares the utterances of its own batch.

    Args:
        temperature: Sharpness of the comparison, above 0 (paper: 0.1).
    """

    needs = ("emotion",)

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} must be above 0")
        self.temperature = temperature

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the labelled utterances that have a partner in the batch, zero if none has."""
        embedding = nn.functional.normalize(estimate_of(output).embedding.float(), dim=-1)
        # Half-precision similarities, divided by the temperature, would be off in the first decimal.
        with torch.autocast(embedding.device.type, enabled=False):
            scores = embedding @ embedding.T / self.temperature
        itself = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
        same = (batch.emotion[:, None] == batch.emotion) & (batch.emotion != MISSING)[:, None] & ~itself
        partners = same.sum(1)
        if not partners.any():
            # Zero, and connected to what trains.
            return embedding.sum() * 0.0
        log_probability = scores.masked_fill(itself, -torch.inf).log_softmax(-1)
        per_utterance = log_probability.masked_fill(~same, 0.0).sum(1)
        return -(per_utterance[partners > 0] / partners[partners > 0]).mean()
