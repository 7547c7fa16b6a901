"""The unit language model over a kept cache: what it has read is never read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

FIRST_CAPACITY = 256
"""Positions that a cache begins with; it doubles when they are full, so that growing costs nothing per step."""


class UnitCache:
    """Keys and values of several replies, each with a length of its own, and the model that reads after them.

    Qwen2's forward written for steps of a few positions, where each call of a small operation costs as much as its
    work: weights are looked up once, rotations come from a table, there is a mask only where lengths differ or
    several positions are read, and grouped queries meet their keys without copies of them.

    Args:
        model: A ``Qwen2Model``.
        count: Number of replies.
    """

    def __init__(self, model: Any, count: int) -> None:
        config = model.config
        weight = model.embed_tokens.weight
        self.lengths = [0] * count
        self._size = config.hidden_size // config.num_attention_heads
        self._groups = config.num_key_value_heads
        self._layers = [_Layer.of(layer) for layer in model.layers]
        self._norm = _Norm.of(model.norm)
        self._rotary = model.rotary_emb
        shape = (len(self._layers), 2, count, self._groups, 0, self._size)
        self._kept = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self._cosines = self._sines = weight.new_zeros(0, 1, self._size)

    def taken(self, rows: Sequence[int]) -> UnitCache:
        """A cache of some of the replies, a copy."""
        part = object.__new__(UnitCache)
        part.__dict__.update(self.__dict__)
        part.lengths = [self.lengths[row] for row in rows]
        part._kept = self._kept[:, :, list(rows)]
        return part

    def put(self, rows: Sequence[int], part: UnitCache) -> None:
        """Take back what :meth:`taken` gave, with what was read since."""
        capacity = part._kept.shape[4]
        self._reserve(capacity)
        self._kept[:, :, list(rows), :, :capacity] = part._kept
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
        count, end = inputs.shape[1], max(self.lengths) + inputs.shape[1]
        self._reserve(end)
        places = self._places(count)
        hidden = inputs
        for number, layer in enumerate(self._layers):
            keys, values = self._kept[number].unbind(0)
            hidden = hidden + self._attended(layer, hidden, keys, values, places)
            normed = layer.second(hidden)
            gated = silu(product(normed, layer.gate)).mul_(product(normed, layer.up))
            hidden = hidden + product(gated, layer.down)
        last = hidden[:, 0]
        if count > 1:
            rows = torch.arange(len(counts), device=hidden.device)
            last = hidden[rows, torch.tensor(counts, device=hidden.device) - 1]
        self.lengths = [length + new for length, new in zip(self.lengths, counts, strict=True)]
        return self._norm(last)

    def _places(self, count: int) -> _Places:
        """Where ``count`` new positions of every reply stand, and what each of them sees."""
        start, end = self.lengths[0], max(self.lengths) + count
        level = min(self.lengths) + count == end
        device = self._kept.device
        if level and count == 1:
            return _Places(start, end, None, None, self._cosines[start], self._sines[start])
        at = torch.tensor(self.lengths, device=device)[:, None] + torch.arange(count, device=device)
        unseen = torch.arange(end, device=device) > at[:, :, None]
        mask = torch.zeros(unseen.shape, dtype=self._kept.dtype, device=device).masked_fill(unseen, -torch.inf)
        # The queries that share a head of keys stand beside each other.
        heads = self._layers[0].query.shape[0] // self._size
        mask = mask.repeat(1, heads // self._groups, 1)[:, None]
        return _Places(start, end, None if level else at, mask, self._cosines[at], self._sines[at])

    def _attended(self, layer: _Layer, hidden: Tensor, keys: Tensor, values: Tensor, places: _Places) -> Tensor:
        rows, count, _ = hidden.shape
        normed = layer.first(hidden)
        query = places.rotated(product(normed, layer.query, layer.query_bias).view(rows, count, -1, self._size))
        key = places.rotated(product(normed, layer.key, layer.key_bias).view(rows, count, -1, self._size))
        value = product(normed, layer.value, layer.value_bias).view(rows, count, -1, self._size)
        if places.at is None:
            keys.narrow(2, places.start, count).copy_(key.transpose(1, 2))
            values.narrow(2, places.start, count).copy_(value.transpose(1, 2))
        else:
            row = torch.arange(rows, device=keys.device)[:, None]
            keys[row, :, places.at] = key
            values[row, :, places.at] = value
        if count > 1:
            query = query.view(rows, count, self._groups, -1, self._size).permute(0, 2, 3, 1, 4)
        query = query.reshape(rows, self._groups, -1, self._size)
        keys, values = keys.narrow(2, 0, places.end), values.narrow(2, 0, places.end)
        found = scaled_dot_product_attention(query, keys, values, places.mask)
        if count > 1:
            found = found.view(rows, self._groups, -1, count, self._size).permute(0, 3, 1, 2, 4)
        return product(found.reshape(rows, count, -1), layer.output)

    def _reserve(self, end: int) -> None:
        capacity = self._kept.shape[4]
        if end <= capacity:
            return
        wider = max(FIRST_CAPACITY, capacity)
        while wider < end:
            wider *= 2
        self._kept = nn.functional.pad(self._kept, (0, 0, 0, wider - capacity))
        cosines, sines = self._rotary(self._kept, torch.arange(wider, device=self._kept.device)[None])
        half = self._size // 2
        self._cosines = cosines[0, :, None]
        # A rotation swaps the halves of a head; the sign of the first stands in the table.
        self._sines = torch.cat([-sines[0, :, None, :half], sines[0, :, None, half:]], -1)


class _Places(NamedTuple):
    """Where new positions stand: from ``start`` in every reply, or ``at`` (B, N) where replies differ."""

    start: int
    end: int
    at: Tensor | None
    mask: Tensor | None
    cosines: Tensor
    sines: Tensor

    def rotated(self, heads: Tensor) -> Tensor:
        """Heads (B, N, H, size) turned by their positions."""
        return torch.addcmul(heads * self.cosines, heads.roll(heads.shape[-1] // 2, -1), self.sines)


class _Norm(NamedTuple):
    """Root mean square norm: x * weight / sqrt(mean(x^2) + eps), with the mean's division in weight and eps."""

    weight: Tensor
    epsilon: Tensor

    @classmethod
    def of(cls, norm: Any) -> _Norm:
        width = norm.weight.shape[0]
        epsilon = torch.tensor((width * norm.variance_epsilon) ** 0.5, device=norm.weight.device)
        return cls(norm.weight.float() * width**0.5, epsilon)

    def __call__(self, hidden: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        return (hidden * self.weight).div_(torch.hypot(length, self.epsilon)).to(hidden.dtype)


class _Layer(NamedTuple):
    """Weights of a block."""

    first: _Norm
    query: Tensor
    query_bias: Tensor
    key: Tensor
    key_bias: Tensor
    value: Tensor
    value_bias: Tensor
    output: Tensor
    second: _Norm
    gate: Tensor
    up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        return cls(
            first=_Norm.of(layer.input_layernorm),
            query=query.weight,
            query_bias=query.bias,
            key=key.weight,
            key_bias=key.bias,
            value=value.weight,
            value_bias=value.bias,
            output=attention.o_proj.weight,
            second=_Norm.of(layer.post_attention_layernorm),
            gate=mlp.gate_proj.weight,
            up=mlp.up_proj.weight,
            down=mlp.down_proj.weight,
        )


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer for a few rows (B, N, D) or (B, D).

    On a CPU the libraries are faster with the weight on the left.
    """
    count = inputs.numel() // inputs.shape[-1]
    if inputs.device.type != "cpu" or not 1 < count <= 16:
        return linear(inputs, weight, bias)
    found = torch.mm(weight, inputs.reshape(count, -1).t()).t().contiguous()
    if bias is not None:
        found += bias
    return found.view(*inputs.shape[:-1], -1)
