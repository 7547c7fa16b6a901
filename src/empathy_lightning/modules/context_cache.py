"""Keys and values of positions that need no gradient, for the positions after them to read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class ContextCache(DynamicCache):
    """Keys and values of positions without gradient.

    Without gradient they are stored, a single row's for all rows that follow; with gradient
    they are only read, so that a block may be computed twice.
    """

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Keys and values of a layer, each (B, heads, T, size), with those before them."""
        layer: Any = self.layers[layer_idx]
        keys, values = key_states, value_states
        if layer.is_initialized:
            keys = torch.cat([layer.keys.expand(len(keys), -1, -1, -1), keys], -2)
            values = torch.cat([layer.values.expand(len(values), -1, -1, -1), values], -2)
        if not torch.is_grad_enabled():
            layer.lazy_initialization(key_states, value_states)
            layer.keys, layer.values = keys, values
        return keys, values
