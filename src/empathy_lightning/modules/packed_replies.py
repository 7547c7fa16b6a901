"""Several replies in one row for training: nothing is computed of padding but its attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb


def read_packed(model: Any, rows: Tensor, lengths: Sequence[int]) -> Tensor:
    """Last hidden states of replies that lie behind each other; each attends to itself only, from position 0.

    Norms, projections and feed-forward layers see one row without padding. For the attention the heads are laid out
    reply by reply, padded on the right, where the causal order hides the padding without a mask.

    Args:
        model: A ``Qwen2Model``.
        rows: Embeddings of all replies, (sum of T_i, D).
        lengths: Of the replies, T_i.

    Returns:
        After the final norm, shape (sum of T_i, D).
    """
    hidden = rows[None]
    places = torch.cat([torch.arange(length, device=hidden.device) for length in lengths])
    rotation = model.rotary_emb(hidden, places[None])
    # Where each position stands among the padded replies.
    starts = torch.arange(len(lengths), device=hidden.device) * max(lengths)
    at = starts.repeat_interleave(torch.tensor(lengths, device=hidden.device), output_size=len(places)) + places
    for layer in model.layers:
        hidden = hidden + _attended(layer.self_attn, layer.input_layernorm(hidden), rotation, lengths, at)
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    normed: Tensor = model.norm(hidden)
    return normed[0]


def _attended(
    attention: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor], lengths: Sequence[int], at: Tensor
) -> Tensor:
    shape = (1, hidden.shape[1], -1, attention.head_dim)
    query = attention.q_proj(hidden).view(shape).transpose(1, 2)
    key = attention.k_proj(hidden).view(shape).transpose(1, 2)
    value = attention.v_proj(hidden).view(shape).transpose(1, 2)
    query, key = apply_rotary_pos_emb(query, key, *rotation)
    query, key, value = _apart(query, lengths, at), _apart(key, lengths, at), _apart(value, lengths, at)
    found = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    found = found.transpose(1, 2).flatten(0, 1).index_select(0, at)
    attended: Tensor = attention.o_proj(found.flatten(1))[None]
    return attended


def _apart(heads: Tensor, lengths: Sequence[int], at: Tensor) -> Tensor:
    """Heads (1, H, T, size) of replies behind one another as rows of their own, (B, H, longest, size)."""
    behind = heads[0].transpose(0, 1)
    padded = behind.new_zeros(len(lengths) * max(lengths), *behind.shape[1:]).index_copy(0, at, behind)
    return padded.view(len(lengths), max(lengths), *behind.shape[1:]).transpose(1, 2)
