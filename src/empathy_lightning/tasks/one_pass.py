"""Steps of Adam that read and write each weight once."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Adam, Optimizer


def in_one_pass(optimizer: Optimizer) -> Optimizer:
    """Let Adam and its kin take a step by one fused kernel on a processor, where they were not told how.

    Otherwise torch makes a dozen passes over weights, gradients and moments. On a GPU its own choice stands.

    Args:
        optimizer: As it was made; its parameters are where they will train.

    Returns:
        The same.
    """
    if not isinstance(optimizer, Adam):
        return optimizer
    for group in optimizer.param_groups:
        untold = group["fused"] is None and not (group["foreach"] or group["capturable"] or group["differentiable"])
        if untold and all(_plain(parameter) for parameter in group["params"]):
            group["fused"] = True
    return optimizer


def _plain(parameter: Tensor) -> bool:
    """Whether it is a parameter of numbers on a processor, and no shard of one."""
    return type(parameter) is nn.Parameter and parameter.device.type == "cpu" and parameter.is_floating_point()
