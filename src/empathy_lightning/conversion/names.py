"""Names of weights and settings of models that more than one release contains."""

from __future__ import annotations

WHISPER = {
    "conv1.weight": "conv1.weight", "conv1.bias": "conv1.bias",
    "conv2.weight": "conv2.weight", "conv2.bias": "conv2.bias",
    "positional_embedding": "embed_positions.weight",
    "ln_post.weight": "layer_norm.weight", "ln_post.bias": "layer_norm.bias",
}  # fmt: skip
"""openai-whisper's encoder in transformers' names."""

WHISPER_BLOCK = {
    "attn.query.weight": "self_attn.q_proj.weight", "attn.query.bias": "self_attn.q_proj.bias",
    "attn.key.weight": "self_attn.k_proj.weight",
    "attn.value.weight": "self_attn.v_proj.weight", "attn.value.bias": "self_attn.v_proj.bias",
    "attn.out.weight": "self_attn.out_proj.weight", "attn.out.bias": "self_attn.out_proj.bias",
    "attn_ln.weight": "self_attn_layer_norm.weight", "attn_ln.bias": "self_attn_layer_norm.bias",
    "mlp.0.weight": "fc1.weight", "mlp.0.bias": "fc1.bias",
    "mlp.2.weight": "fc2.weight", "mlp.2.bias": "fc2.bias",
    "mlp_ln.weight": "final_layer_norm.weight", "mlp_ln.bias": "final_layer_norm.bias",
}  # fmt: skip
"""The same within a block."""

QWEN2_LAYER = [
    "input_layernorm.weight", "post_attention_layernorm.weight",
    "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.weight", "self_attn.k_proj.bias",
    "self_attn.v_proj.weight", "self_attn.v_proj.bias", "self_attn.o_proj.weight",
    "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight",
]  # fmt: skip
"""Weights of a layer of Qwen2."""

QWEN2_CONFIG = [
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "hidden_act",
    "attention_dropout", "initializer_range", "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    "sliding_window", "use_sliding_window", "max_window_layers",
]  # fmt: skip
"""Keys of Qwen2's configuration that a release's own, which has more, shares with it."""


def qwen2_layers(prefix: str, layers: int) -> list[str]:
    """Names of the weights of Qwen2's layers under a prefix such as ``model.``."""
    return [f"{prefix}layers.{layer}.{name}" for layer in range(layers) for name in QWEN2_LAYER]
