"""Losses by name, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError


def check_weights(loss_weights: dict[str, float] | None, losses: Sequence[str]) -> dict[str, float]:
    """The weights of losses by name, ``response`` among them.

    One override may take all auxiliary losses away; weights that stay behind weigh nothing then.

    Raises:
        InputError: If a weight names no loss.
    """
    unknown = set(loss_weights or {}) - {"response", *losses}
    if unknown and losses:
        raise InputError(f"loss_weights name no loss: {', '.join(sorted(unknown))}")
    return dict(loss_weights or {})


def weighty(auxiliary_losses: nn.ModuleDict, weights: dict[str, float]) -> dict[str, nn.Module]:
    """The auxiliary losses whose weight is not 0, by name."""
    return {name: loss for name, loss in auxiliary_losses.items() if weights.get(name, 1.0)}


def losses_of(output: Any, batch: SpeechBatch, auxiliary_losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Each loss by name, before its weight."""
    losses = {name: loss(output, batch) for name, loss in auxiliary_losses.items()}
    return losses if output.response_loss is None else {"response": output.response_loss, **losses}


def weighted_sum(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of losses by their weights, 1 where not given; one of weight 0 is only logged and costs no backward pass."""
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.ndim:
            given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"the loss {name!r} gives no scalar but {given}: let its forward return the mean")
    weighed = [weights.get(n, 1.0) * (v if weights.get(n, 1.0) else v.detach()) for n, v in losses.items()]
    return torch.stack(weighed).sum() if weighed else torch.zeros(())
