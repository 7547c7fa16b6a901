"""Less memory for the backward pass of a frozen model, which computes its blocks again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def checkpoint_blocks(model: nn.Module) -> None:
    """Let each block of a transformers model keep only its input for the backward pass.

    transformers' own switch works in training mode alone, in which a frozen model never is.

    Raises:
        ValueError: If it has no blocks that transformers marks.
    """
    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        raise ValueError(f"{type(model).__name__} cannot compute its blocks again: leave gradient_checkpointing out")
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
