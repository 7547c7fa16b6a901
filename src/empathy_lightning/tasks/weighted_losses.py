"""Losses by name, and their weighted sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError, meant
from empathy_lightning.losses.categorical import CategoricalLoss, FocalLoss, SoftLabelLoss
from empathy_lightning.outputs import Output

EMOTION_LOSSES = (CategoricalLoss, FocalLoss, SoftLabelLoss)
"""Losses that compare with the labels, so that a class without any cannot be learnt."""


def check_weights(loss_weights: Mapping[str, float] | None, own: str, losses: Collection[str]) -> dict[str, float]:
    """The weights of losses by name.

    One override may take all auxiliary losses away; weights that stay behind weigh nothing then.

    Args:
        loss_weights: As given.
        own: Name of the task's own loss.
        losses: Names of the auxiliary ones.

    Raises:
        InputError: If a weight names no loss.
    """
    known = [own, *losses]
    unknown = sorted(set(loss_weights or {}) - set(known))
    if unknown and losses:
        there = ", ".join(known)
        raise InputError(
            f"loss_weights name no loss: {', '.join(unknown)}; there are {there}{meant(unknown[0], known)}"
        )
    return dict(loss_weights or {})


def weighty(auxiliary_losses: nn.ModuleDict, weights: dict[str, float]) -> dict[str, nn.Module]:
    """The auxiliary losses whose weight is not 0, by name."""
    return {name: loss for name, loss in auxiliary_losses.items() if weights.get(name, 1.0)}


def losses_of(output: Output, batch: SpeechBatch, auxiliary_losses: nn.ModuleDict) -> dict[str, Tensor]:
    """Each loss by name, before its weight."""
    losses = dict(output.losses)
    for name, loss in auxiliary_losses.items():
        losses[name] = loss(output, batch)
    return losses


def weighted_sum(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of losses by their weights, 1 where not given; one of weight 0 is only logged and costs no backward pass.

    Raises:
        InputError: If a loss is no scalar.
    """
    for name, loss in losses.items():
        if not isinstance(loss, Tensor) or loss.ndim:
            given = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"the loss {name!r} gives no scalar but {given}: let its forward return the mean")
    weighed = []
    for name, loss in losses.items():
        weight = weights.get(name, 1.0)
        weighed.append(weight * (loss if weight else loss.detach()))
    return torch.stack(weighed).sum() if weighed else torch.zeros(())
