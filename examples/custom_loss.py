"""A loss of your own: utterances of one emotion should have like embeddings.

Named in YAML, or added to an existing trainer on the command line:

    PYTHONPATH=examples empathy-lightning fit --config examples/demo/emotion_nuance.yaml \
        --model.auxiliary_losses.contrast custom_loss.EmbeddingContrast
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EmbeddingContrast(nn.Module):
    """Supervised contrastive loss over emotion embeddings (Khosla et al. 2020, arXiv 2004.11362, equation 2).

    Args:
        temperature: Sharpness of the comparison.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, output: Any, batch: Any) -> Tensor:
        """Mean over the labelled utterances that have a partner; zero, but connected, if none has."""
        embedding = nn.functional.normalize(output.emotion.embedding.float(), dim=-1)
        itself = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
        same = (batch.emotion[:, None] == batch.emotion) & (batch.emotion >= 0)[:, None] & ~itself
        with torch.autocast(embedding.device.type, enabled=False):  # half precision is too coarse for cosines
            scores = (embedding @ embedding.T / self.temperature).masked_fill(itself, -torch.inf)
        partners = same.sum(1)
        if not partners.any():
            return embedding.sum() * 0.0
        likelihood = scores.log_softmax(-1).masked_fill(~same, 0.0).sum(1)
        return -(likelihood[partners > 0] / partners[partners > 0]).mean()
