"""Rows of a batch behind one another for a language model: nothing is computed of padding but its attention.

transformers hands what it is called with down to the attention, and lets that be replaced by name. Norms, projections
and feed-forward layers then see one long row, and only the attention lays the rows out side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "empathy_lightning_packed"
"""Of the attention, in transformers' configurations."""


@dataclass(frozen=True)
class Packing:
    """Where the positions of a packed call belong.

    Attributes:
        queries: Positions of the call that are each row's, shape (B, Q); any where a row has fewer.
        keys: Positions among all keys so far that each row sees, in its order, shape (B, K); likewise.
        places: Where each position of the call stands among the B * Q, shape (N,).
        positions: Where it stands in its own row, shape (N,).
        mask: What sees what, shape (B, 1, Q, K), True where seen; None for what is plainly causal.
    """

    queries: Tensor
    keys: Tensor
    places: Tensor
    positions: Tensor
    mask: Tensor | None

    def of_rows(self, flags: Tensor) -> Tensor:
        """Of flags (B, T) by row and position, those of the call's positions, shape (1, N); False beyond T."""
        rows = self.places // self.queries.shape[1]
        known = nn.functional.pad(flags, (0, 1))
        return known[rows, self.positions.clamp(max=flags.shape[1])][None]


class PackedRows:
    """The rows of a batch over several calls with one cache.

    Args:
        prefix: Keys that are there already and belong to all rows.
        count: Rows.
        device: Of the tensors.
    """

    def __init__(self, prefix: int, count: int, device: torch.device) -> None:
        self.total = prefix
        self.device = device
        self.seen = [torch.arange(prefix)] * count

    def next(self, lengths: Sequence[int]) -> Packing:
        """The packing of a call that goes on with so many positions of each row."""
        new = torch.arange(sum(lengths)).split(list(lengths))
        before = torch.tensor([len(seen) for seen in self.seen])
        self.seen = [torch.cat([seen, self.total + own]) for seen, own in zip(self.seen, new, strict=True)]
        self.total += sum(lengths)
        queries = nn.utils.rnn.pad_sequence(list(new), True)
        keys = self.layout
        mask = None
        # Behind nothing all is plainly causal, for which the fused kernels are best without a mask.
        if bool(before.any()):
            last = before[:, None] + torch.arange(queries.shape[1])
            mask = (torch.arange(keys.shape[1]) <= last[..., None])[:, None].to(self.device)
        valid = torch.arange(queries.shape[1]) < torch.tensor(lengths)[:, None]
        positions = (before[:, None] + torch.arange(queries.shape[1]))[valid]
        places = valid.flatten().nonzero()[:, 0]
        queries, keys = queries.to(self.device), keys.to(self.device)
        return Packing(queries, keys, places.to(self.device), positions.to(self.device), mask)

    @property
    def layout(self) -> Tensor:
        """Where each row's positions stand among all that were computed, shape (B, T), zero past each length."""
        return nn.utils.rnn.pad_sequence(self.seen, True)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The fused attention of transformers, of packed rows where a packing is given."""
    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    query = _side_by_side(query, packing.queries)
    key, value = _side_by_side(key, packing.keys), _side_by_side(value, packing.keys)
    found, _ = sdpa_attention_forward(module, query, key, value, packing.mask, **options)
    return found.flatten(0, 1).index_select(0, packing.places)[None], None


def _side_by_side(heads: Tensor, rows: Tensor) -> Tensor:
    """Heads (1, H, N, size) of packed rows as (B, H, T, size), by positions (B, T)."""
    found = heads[0].transpose(0, 1).index_select(0, rows.flatten())
    return found.unflatten(0, rows.shape).transpose(1, 2)


def run_packed(decoder: Any, embeddings: Tensor, rows: PackedRows, lengths: Sequence[int], cache: Any) -> Tensor:
    """Last hidden states (N, D) of the next positions of all rows, behind one another.

    Args:
        decoder: Of a model whose attention is :data:`NAME`.
        embeddings: Of those positions, shape (N, D).
        rows: Of the batch, with what was computed before.
        lengths: How many positions each row goes on.
        cache: With keys and values of what was computed before.
    """
    packing = rows.next(lengths)
    output = decoder(
        inputs_embeds=embeddings[None],
        # One of four dimensions is handed on as it is; nothing reads it.
        attention_mask=embeddings.new_zeros(1, 1, 1, 1),
        position_ids=packing.positions[None],
        past_key_values=cache,
        use_cache=True,
        packing=packing,
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def worthwhile(mask: Tensor) -> bool:
    """Whether a twentieth or more of a batch is padding; the mask (B, T) is True where valid."""
    return int(mask.sum()) < 0.95 * mask.numel()


def states_of_rows(
    decoder: Any, embeddings: Tensor, mask: Tensor, done: Tensor, still: Sequence[int], cache: Any
) -> Tensor:
    """Last hidden states of right-padded rows that begin alike, without their padding.

    Args:
        decoder: Of a model whose attention is :data:`NAME`.
        embeddings: Shape (B, T, D).
        mask: Shape (B, T), True where valid.
        done: Of the P positions with which all rows begin, whose keys and values are in the cache, shape (P, D).
        still: How many of each row's first positions need no gradient, at least P where there is more.
        cache: For keys and values of what needs none.

    Returns:
        Shape (B, T, D); past its end a row repeats some state.
    """
    rows = PackedRows(len(done), len(mask), mask.device)
    states = [done]
    begun = torch.full((len(mask), 1), len(done), device=mask.device)
    at = torch.arange(mask.shape[1], device=mask.device)
    # Twice: what needs no gradient, and then, behind its keys and values, the rest.
    for ends, with_gradient in ((torch.tensor(still), False), (mask.sum(1), torch.is_grad_enabled())):
        ends = torch.maximum(ends.to(mask.device)[:, None], begun)
        counts = (ends - begun)[:, 0].tolist()
        if sum(counts):
            with torch.set_grad_enabled(with_gradient):
                chosen = embeddings[(at >= begun) & (at < ends)]
                states.append(run_packed(decoder, chosen, rows, counts, cache))
        begun = ends
    layout = nn.functional.pad(rows.layout, (0, mask.shape[1] - rows.layout.shape[1])).to(mask.device)
    return torch.cat(states).index_select(0, layout.flatten()).unflatten(0, layout.shape)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
