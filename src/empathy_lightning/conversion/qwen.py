"""Qwen2 as releases hold it; Qwen-1, mapped onto it: the same function, without code from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import Qwen2Config

from empathy_lightning.conversion.released import number
from empathy_lightning.errors import InputError

_SIZES = [
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
]  # fmt: skip
_SETTINGS = [
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act", "attention_dropout",
    "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "sliding_window",
    "use_sliding_window", "max_window_layers",
]  # fmt: skip
_OUTSIDE = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "lm_head": "lm_head"}
_INSIDE = {
    "ln_1": "input_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "ln_2": "post_attention_layernorm",
    # Qwen-1 computes w1(x) * silu(w2(x)).
    "mlp.w1": "mlp.up_proj",
    "mlp.w2": "mlp.gate_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_UPDATES = {
    "attn.c_attn": "attention_in",
    "attn.c_proj": "attention_out",
    "mlp.w1": "up",
    "mlp.w2": "gate",
    "mlp.c_proj": "down",
}
_LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)$")
_LORA = re.compile(r"transformer\.h\.(\d+)\.(.+)\.(lora_[AB])\.default\.weight$")


def plain_qwen2_config(values: Mapping[str, Any]) -> Qwen2Config:
    """What is Qwen2's own in the configuration of a model that has more parts.

    Raises:
        InputError: If a size is missing.
    """
    own: dict[str, Any] = {name: number(values, name) for name in _SIZES}
    own |= {name: values[name] for name in _SETTINGS if name in values}
    return Qwen2Config(**own, architectures=["Qwen2ForCausalLM"])


def qwen2_config(values: Mapping[str, Any]) -> Qwen2Config:
    """Configuration of the Qwen2 model that computes what a Qwen-1 model does up to its ``seq_length``.

    Beyond that length Qwen-1 may stretch its positions and scale its attention; Qwen2 does neither.

    Args:
        values: Qwen-1's configuration; its ``intermediate_size`` counts gate and value together.

    Raises:
        InputError: If the model has biases or head sizes that Qwen2 has no place for.
    """
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    if not values.get("no_bias", True) or values.get("kv_channels", hidden // heads) * heads != hidden:
        raise InputError("this Qwen configuration has biases or head sizes that Qwen2 has no place for")
    return Qwen2Config(
        vocab_size=values["vocab_size"],
        hidden_size=hidden,
        intermediate_size=values["intermediate_size"] // 2,
        num_hidden_layers=values["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=values.get("seq_length", 8192),
        rms_norm_eps=values.get("layer_norm_epsilon", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": float(values.get("rotary_emb_base", 10000))},
        tie_word_embeddings=False,
    )


def qwen2_names(key: str) -> list[str]:
    """Qwen2's names for a key of Qwen-1: one, three for the joined query, key and value, none if unknown."""
    module, _, kind = key.rpartition(".")
    if module in _OUTSIDE:
        return [f"{_OUTSIDE[module]}.{kind}"]
    match = _LAYER.match(key)
    if match is None:
        return []
    layer, module, kind = match.groups()
    if module == "attn.c_attn":
        return [f"model.layers.{layer}.self_attn.{name}_proj.{kind}" for name in "qkv"]
    if module in _INSIDE and kind == "weight":
        return [f"model.layers.{layer}.{_INSIDE[module]}.{kind}"]
    return []


def qwen2_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under Qwen2's names; unknown keys are left out."""
    mapped: dict[str, Tensor] = {}
    for key, value in weights.items():
        names = qwen2_names(key)
        if names:
            mapped |= dict(zip(names, value.chunk(len(names)), strict=True))
    return mapped


def partial_lora_name(key: str) -> str | None:
    """The name in :class:`~empathy_lightning.modules.partial_lora.PartialLora` of a low-rank factor, or None."""
    match = _LORA.match(key)
    if match is None or match[2] not in _UPDATES:
        return None
    return f"layers.{match[1]}.{_UPDATES[match[2]]}.{match[3]}"


def without_wrapper(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Each key under a prefix with its bare Qwen-1 name; the LoRA wrapper's extra level is taken away."""
    return {key: key.removeprefix(prefix).removeprefix("model.") for key in keys if key.startswith(prefix)}
