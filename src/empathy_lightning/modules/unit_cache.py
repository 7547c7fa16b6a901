"""The unit language model over a kept cache: what it has read is never read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

FIRST_CAPACITY = 256
"""Positions that a cache begins with; it doubles when they are full, so that growing costs nothing per step."""


class UnitCache:
    """Keys and values of several replies, each with a length of its own, and the model that reads after them.

    Qwen2's forward of a few positions, written for steps: rotations come from a table, there is a mask only where
    lengths differ or several positions are read, and grouped queries meet their keys without copies of them.

    Args:
        model: A ``Qwen2Model``.
        count: Number of replies.
    """

    def __init__(self, model: Any, count: int) -> None:
        config = model.config
        self.model = model
        self.lengths = [0] * count
        self._size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        weight = model.embed_tokens.weight
        shape = (config.num_hidden_layers, 2, count, config.num_key_value_heads, 0, self._size)
        self._kept = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self._cosines = self._sines = weight.new_zeros(0, self._size)

    def taken(self, rows: Sequence[int]) -> UnitCache:
        """A cache of some of the replies, a copy."""
        part = object.__new__(UnitCache)
        part.__dict__.update(self.__dict__)
        part.lengths = [self.lengths[row] for row in rows]
        part._kept = self._kept[:, :, list(rows)]
        return part

    def put(self, rows: Sequence[int], part: UnitCache) -> None:
        """Take back what :meth:`taken` gave, with what was read since."""
        self._reserve(part._kept.shape[4])
        self._kept[:, :, list(rows), :, : part._kept.shape[4]] = part._kept
        for row, length in zip(rows, part.lengths, strict=True):
            self.lengths[row] = length

    def read(self, inputs: Tensor, counts: Sequence[int]) -> Tensor:
        """Read new positions of every reply.

        Args:
            inputs: Embeddings, shape (B, N, D), padded on the right.
            counts: How many of them each reply has, 1..N.

        Returns:
            Hidden states of each reply's last position, after the final norm, shape (B, D).
        """
        at = self._positions(inputs.shape[1])
        end = max(self.lengths) + inputs.shape[1]
        self._reserve(end)
        rotation = (self._cosines[at][:, :, None], self._sines[at][:, :, None])
        mask = self._mask(at, end)
        hidden = inputs
        for number, layer in enumerate(self.model.layers):
            normed = _normed(hidden, layer.input_layernorm)
            hidden = hidden + self._attended(layer.self_attn, normed, number, at, end, rotation, mask)
            hidden = hidden + layer.mlp(_normed(hidden, layer.post_attention_layernorm))
        last = hidden[:, 0]
        if inputs.shape[1] > 1:
            rows = torch.arange(len(counts), device=hidden.device)
            last = hidden[rows, torch.tensor(counts, device=hidden.device) - 1]
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        return _normed(last, self.model.norm)

    def _positions(self, count: int) -> Tensor:
        """Positions (B, N) of what is read next."""
        device = self._kept.device
        return torch.tensor(self.lengths, device=device)[:, None] + torch.arange(count, device=device)

    def _mask(self, at: Tensor, end: int) -> Tensor | None:
        """What each new position sees, to be added to its scores: (B, 1, G * N, end) for groups of G queries."""
        if at.shape[1] == 1 and min(self.lengths) + 1 == end:
            return None
        config = self.model.config
        unseen = torch.arange(end, device=at.device) > at[:, :, None]
        mask = torch.zeros(unseen.shape, dtype=self._kept.dtype, device=at.device).masked_fill(unseen, -torch.inf)
        return mask.repeat(1, config.num_attention_heads // config.num_key_value_heads, 1)[:, None]

    def _attended(
        self,
        attention: Any,
        normed: Tensor,
        number: int,
        at: Tensor,
        end: int,
        rotation: tuple[Tensor, Tensor],
        mask: Tensor | None,
    ) -> Tensor:
        rows, count, _ = normed.shape
        keys, values = self._kept[number]
        groups = keys.shape[1]
        query = _rotated(attention.q_proj(normed).view(rows, count, -1, self._size), rotation)
        key = _rotated(attention.k_proj(normed).view(rows, count, groups, self._size), rotation)
        value = attention.v_proj(normed).view(rows, count, groups, self._size)
        if min(self.lengths) + count == end:
            keys[:, :, end - count : end] = key.transpose(1, 2)
            values[:, :, end - count : end] = value.transpose(1, 2)
        else:
            row = torch.arange(rows, device=at.device)[:, None]
            keys[row, :, at] = key
            values[row, :, at] = value
        # The queries that share a head of keys stand beside each other: (B, groups, G * N, size).
        query = query.view(rows, count, groups, -1, self._size).permute(0, 2, 3, 1, 4)
        query = query.reshape(rows, groups, -1, self._size)
        found = nn.functional.scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end], mask)
        found = found.view(rows, groups, -1, count, self._size).permute(0, 3, 1, 2, 4)
        attended: Tensor = attention.o_proj(found.reshape(rows, count, -1))
        return attended

    def _reserve(self, end: int) -> None:
        capacity = self._kept.shape[4]
        if end <= capacity:
            return
        wider = max(FIRST_CAPACITY, capacity)
        while wider < end:
            wider *= 2
        self._kept = nn.functional.pad(self._kept, (0, 0, 0, wider - capacity))
        places = torch.arange(wider, device=self._kept.device)[None]
        cosines, sines = self.model.rotary_emb(self._kept, places)
        self._cosines, self._sines = cosines[0], sines[0]


def _normed(hidden: Tensor, norm: Any) -> Tensor:
    return nn.functional.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _rotated(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Heads (B, N, H, size) turned by their positions."""
    cosines, sines = rotation
    first, second = heads.chunk(2, -1)
    return heads * cosines + torch.cat([-second, first], -1) * sines
