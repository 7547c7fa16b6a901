"""The unit language model over a kept cache: what it has read is never read again."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

FIRST_CAPACITY = 256
"""Positions that a cache begins with; it doubles when they are full, so that growing costs nothing per step."""


class UnitCache:
    """Keys and values of several replies, each with a length of its own, and the model that reads after them.

    Qwen2's forward written for steps of a few positions, where each call of a small operation costs as much as its
    work, and a large one as much as reading its weights: those that read the same lie side by side, in an order in
    which a row of inputs meets them fast (a copy, made for a model's first reply), rotations come from a table, there
    is a mask only where lengths differ or several positions are read, and grouped queries meet their keys without
    copies of them.

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
        self._layers = _layers_of(model)
        self._heads = config.num_attention_heads
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
        count = inputs.shape[1]
        self._reserve(max(self.lengths) + count)
        places = self._places(count)
        hidden = inputs
        for number, layer in enumerate(self._layers):
            keys, values = self._kept[number].unbind(0)
            hidden = hidden + self._attended(layer, hidden, keys, values, places)
            normed = layer.second(hidden)
            gate, up = layer.gate_and_up(normed).chunk(2, -1)
            hidden = hidden + layer.down(silu(gate).mul_(up))
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
        mask = mask.repeat(1, self._heads // self._groups, 1)[:, None]
        return _Places(start, end, None if level else at, mask, self._cosines[at], self._sines[at])

    def _attended(self, layer: _Layer, hidden: Tensor, keys: Tensor, values: Tensor, places: _Places) -> Tensor:
        rows, count, _ = hidden.shape
        heads = layer.heads(layer.first(hidden)).view(rows, count, -1, self._size)
        groups = self._groups
        turned, value = places.rotated(heads[:, :, :-groups]), heads[:, :, -groups:]
        query, key = turned[:, :, :-groups], turned[:, :, -groups:]
        if places.at is None:
            keys.narrow(2, places.start, count).copy_(key.transpose(1, 2))
            values.narrow(2, places.start, count).copy_(value.transpose(1, 2))
        else:
            row = torch.arange(rows, device=keys.device)[:, None]
            keys[row, :, places.at] = key
            values[row, :, places.at] = value
        if count > 1:
            query = query.reshape(rows, count, groups, -1, self._size).permute(0, 2, 3, 1, 4)
        query = query.reshape(rows, groups, -1, self._size)
        keys, values = keys.narrow(2, 0, places.end), values.narrow(2, 0, places.end)
        found = scaled_dot_product_attention(query, keys, values, places.mask)
        if count > 1:
            found = found.view(rows, groups, -1, count, self._size).permute(0, 3, 1, 2, 4)
        return layer.output(found.reshape(rows, count, -1))

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
        """That of Qwen2's norm."""
        width = norm.weight.shape[0]
        epsilon = torch.tensor((width * norm.variance_epsilon) ** 0.5, device=norm.weight.device)
        return cls(norm.weight.float() * width**0.5, epsilon)

    def __call__(self, hidden: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        return (hidden * self.weight).div_(torch.hypot(length, self.epsilon)).to(hidden.dtype)


class _Linear(NamedTuple):
    """One or more linear layers side by side, as a matrix (in, out) whose rows lie behind one another.

    So a few rows of inputs read it as fast as memory gives it, in a single call.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, *layers: Any) -> _Linear:
        """A copy of linear layers that read the same inputs."""
        weight = torch.cat([layer.weight.detach() for layer in layers]).t().contiguous()
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        return cls(weight, torch.cat(biases) if biases else None)

    def __call__(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, inputs.shape[-1])
        found = torch.mm(rows, self.weight) if self.bias is None else torch.addmm(self.bias, rows, self.weight)
        return found.view(*inputs.shape[:-1], -1)


class _Layer(NamedTuple):
    """A block: norms, the heads of queries, keys and values together, and the two matrices of the gate together."""

    first: _Norm
    heads: _Linear
    output: _Linear
    second: _Norm
    gate_and_up: _Linear
    down: _Linear

    @classmethod
    def of(cls, layer: Any) -> _Layer:
        """A copy of a block of Qwen2."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            first=_Norm.of(layer.input_layernorm),
            heads=_Linear.of(attention.q_proj, attention.k_proj, attention.v_proj),
            output=_Linear.of(attention.o_proj),
            second=_Norm.of(layer.post_attention_layernorm),
            gate_and_up=_Linear.of(mlp.gate_proj, mlp.up_proj),
            down=_Linear.of(mlp.down_proj),
        )


class _Arranged(NamedTuple):
    """The blocks of a model, and what tells whether its weights are still those."""

    versions: list[tuple[int, int]]
    layers: list[_Layer]


_ARRANGED: WeakKeyDictionary[Any, _Arranged] = WeakKeyDictionary()
_ARRANGING = Lock()


@torch.no_grad()
def _layers_of(model: Any) -> list[_Layer]:
    """The blocks as they are read here: a copy of the weights, kept for later replies until one of them changes."""
    versions = []
    for layer in model.layers:
        for weight in layer.parameters():
            # Where it lies, and how often it was changed; what inference mode made is not counted.
            changes = 0 if weight.is_inference() else weight._version
            versions.append((weight.data_ptr(), changes))
    with _ARRANGING:
        known = _ARRANGED.get(model)
        if known is None or known.versions != versions:
            known = _ARRANGED[model] = _Arranged(versions, [_Layer.of(layer) for layer in model.layers])
    return known.layers


def product(inputs: Tensor, weight: Tensor) -> Tensor:
    """Inputs (B, D) by a weight (V, D) that stays as it lies, shape (B, V).

    On a CPU the libraries are faster with the weight on the left.
    """
    if inputs.device.type != "cpu" or not 1 < len(inputs) <= 16:
        return linear(inputs, weight)
    return torch.mm(weight, inputs.t()).t().contiguous()
