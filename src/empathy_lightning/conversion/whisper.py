"""Whisper's encoder in transformers' whole model, and under openai-whisper's names and sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import WhisperConfig, WhisperModel

from empathy_lightning.conversion.placing import Found, renamed, shape_of
from empathy_lightning.errors import InputError

_OUTSIDE = {"positional_embedding": "embed_positions.weight", "ln_post": "layer_norm"}
_BLOCK = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}


def encoder_model(**sizes: Any) -> WhisperModel:
    """A model with an encoder of these sizes, and a decoder without layers that nothing reads."""
    config = WhisperConfig(
        **sizes, vocab_size=1, decoder_layers=0, decoder_attention_heads=1, decoder_ffn_dim=1, max_target_positions=1,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    return WhisperModel(config)


def openai_encoder(weights: Mapping[str, Tensor], prefix: str, heads: int | None = None) -> WhisperModel:
    """A model of the sizes that the shapes of openai-whisper's encoder tell.

    Args:
        weights: All tensors of the source.
        prefix: What the encoder's keys begin with.
        heads: Attention heads, which shapes do not tell; None for heads of width 64, which every Whisper has.

    Raises:
        InputError: If a weight is missing, or the encoder is no multiple of 64 wide.
    """
    width, mel_bins, _ = shape_of(weights, f"{prefix}conv1.weight")
    if heads is None and width % 64:
        raise InputError(f"a Whisper encoder {width} wide is unknown: its heads should be 64 wide")
    return encoder_model(
        d_model=width,
        num_mel_bins=mel_bins,
        encoder_layers=_layers(weights, prefix),
        encoder_attention_heads=heads or width // 64,
        encoder_ffn_dim=shape_of(weights, f"{prefix}blocks.0.mlp.0.weight")[0],
        max_source_positions=shape_of(weights, f"{prefix}positional_embedding")[0],
    )


def openai_names(weights: Mapping[str, Tensor], prefix: str) -> Found:
    """Weights of openai-whisper's encoder below a prefix, under transformers' names."""
    modules = dict(_OUTSIDE)
    for layer in range(_layers(weights, prefix)):
        modules |= {f"blocks.{layer}.{old}": f"layers.{layer}.{new}" for old, new in _BLOCK.items()}
    return renamed(weights, prefix, modules, under="encoder.")


def _layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    block = re.compile(re.escape(prefix) + r"blocks\.(\d+)\.")
    matches = [block.match(key) for key in weights]
    return max((int(match[1]) + 1 for match in matches if match), default=0)
