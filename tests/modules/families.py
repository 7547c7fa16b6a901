"""Every family of causal language models that transformers offers, as a model of two layers with random weights."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

FAMILIES = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_OF_IDS = (
    "bamba cpmant ctrl falcon_h1 gemma3 gemma4 gemma4_unified nemotron_h openai-gpt reformer roc_bert xlm xlnet zamba "
    "zamba2"
)
_WITHOUT_PADDING = (
    "bart bigbird_pegasus blenderbot blenderbot-small camembert data2vec-text marian mbart mvp pegasus plbart "
    "recurrent_gemma roberta roberta-prelayernorm rwkv trocr whisper xlm-roberta xlm-roberta-xl xmod"
)
REFUSED = {
    **dict.fromkeys(_OF_IDS.split(), "transformers cannot generate from embeddings"),
    **dict.fromkeys(_WITHOUT_PADDING.split(), "padding on the left changes"),
    "blt": "entropy-based patching",
    "deepseek_v4": "does not take embeddings",
    "gemma3n_text": "no function of the embeddings",
    "gemma4_text": "does not take embeddings",
    "git": "in-place",
    "prophetnet": "does not take embeddings",
    "xlstm": "does not take embeddings",
}
"""Families that LanguageModel refuses, and what it says of them."""

NOT_BUILT = {
    "gemma3n": "needs the package timm",
    "gemma4_assistant": "reads keys and values of another model",
    "gemma4_unified_assistant": "reads keys and values of another model",
    "musicgen": "AutoModelForCausalLM takes its decoder's configuration for the whole",
    "musicgen_melody": "AutoModelForCausalLM takes its decoder's configuration for the whole",
}
"""Families of which AutoModelForCausalLM makes no model here."""

_SIZES = {
    64: "vocab_size decoder_vocab_size vocab_size_per_layer_input unpadded_vocab_size encoder_hash_byte_group_vocab "
    "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions max_source_positions "
    "original_max_position_embeddings model_max_length",
    32: "hidden_size d_model n_embd embedding_dim emb_dim embedding_size word_embed_proj_dim ffn_dim decoder_ffn_dim "
    "encoder_ffn_dim intermediate_size moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
    "shared_experts_intermediate_size moe_shared_expert_intermediate_size dim_ff dff d_inner n_inner ffn_hidden_size "
    "expert_ffn_hidden_size intermediate_size_mlp dense_intermediate_size feed_forward_size input_embedding_size "
    "output_embedding_size lru_width attention_hidden_size kv_lora_rank q_lora_rank o_lora_rank router_hidden_size "
    "prompt_mid_dim hidden_size_per_layer_input ple_embed_dim block_size",
    16: "head_dim swa_head_dim qk_head_dim linear_head_dim linear_key_head_dim linear_value_head_dim v_head_dim "
    "index_head_dim attention_head_dim mamba_head_dim mamba_headdim mamba_d_head kv_channels dim_head d_head "
    "attention_head_size",
    8: "qk_rope_head_dim qk_nope_head_dim rotary_dim mamba_d_state ssm_state_size state_size time_step_rank "
    "mamba_dt_rank chunk_size mamba_chunk_size hc_lowrank laurel_rank gated_norm_rank adapter_rank d_rel index_topk "
    "dim_model_base pronunciation_embed_dim shape_embed_dim num_buckets position_bias_num_buckets prompt_length",
    4: "mamba_n_heads mamba_num_heads linear_num_value_heads n_routed_experts num_experts num_local_experts "
    "moe_num_experts zero_expert_num index_topk_blocks index_block_size n_mamba_heads sliding_window "
    "sliding_window_size window_size local_attention attention_window_size attention_chunk_size",
    2: "num_hidden_layers n_layer n_layers num_layers num_blocks decoder_layers encoder_layers num_encoder_layers "
    "num_decoder_layers num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads "
    "encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads "
    "num_key_value_heads num_kv_heads swa_num_key_value_heads linear_num_key_heads linear_num_heads index_n_heads "
    "num_experts_per_tok num_experts_per_token moe_topk moe_k conv_kernel mamba_d_conv hc_mult hc_count",
    1: "n_group topk_group num_expert_group n_groups mamba_n_groups mamba_ngroups num_nextn_predict_layers "
    "first_k_dense_replace n_shared_experts num_shared_experts moe_num_shared_experts num_dense_layers o_groups",
    # Far enough from 1 that a loss without them is another.
    0.5: "final_logit_softcapping attn_logit_softcapping logits_soft_cap output_logit_soft_cap",
    3.0: "logits_scaling logit_scale lm_head_multiplier embedding_multiplier scale_emb",
}
_SMALL: dict[str, float] = {name: size for size, names in _SIZES.items() for name in names.split()}
_HYBRID = ["linear_attention", "hybrid"] * 2
_ROPE = {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")}
_VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_SPECIAL: dict[str, dict[str, Any]] = {
    "axk1": {"head_dim": 8},
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"n_head": 4, "rotary_dim": 4},
    "cohere_compass_text": {"layer_types": list(_ROPE), "rope_parameters": _ROPE},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 32, "hidden_size": 32},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "deepseek_v3": {"head_dim": 8},
    "dots1": {
        "n_routed_experts": 4, "num_local_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1,
        "topk_group": 1,
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma2": {"query_pre_attn_scalar": 4},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "git": {"vision_config": _VISION},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hrm_text": {"num_layers_per_stack": 1, "H_cycles": 1, "L_cycles": 1},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {
        "num_experts": 4, "layer_types": ["conv", "full_attention"],
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
    },
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 4},
    "mimo_v2_flash": {"num_key_value_heads": 1},
    "ministral": {"head_dim": 16},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "qwen4_exp_text": {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 8,
        "indexer_compress_ratio": 4, "layer_types": ["linear_attention", "indexed_attention"],
    },
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]},
    "xmod": {"default_language": "en_XX"},
    "youtu": {"head_dim": 8},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": _HYBRID},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": _HYBRID},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
_TEXT_ALONE = ("dots3_note", "fuyu", "llama4", "qwen3_5", "qwen3_5_moe", "qwen4_exp")
"""Families that transformers builds from the inner configuration, or whose other parts are large."""


def _of_two_layers(values: list[Any]) -> list[Any]:
    other = [value for value in values if value != values[0]]
    return [values[0], (other or values)[0]]


def _small(config: Any) -> Any:
    """A configuration of the same class with small numbers, those inside it too."""
    values = config.to_dict()
    depths = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks")
    depth = next((values[name] for name in depths if isinstance(values.get(name), int)), 0)
    changed: dict[str, Any] = {}
    for name, value in values.items():
        inside = vars(config).get(name)
        if isinstance(inside, PreTrainedConfig):
            changed[name] = _small(inside).to_dict()
        elif name in _SMALL and value is not None and not isinstance(value, bool):
            changed[name] = _SMALL[name]
        elif isinstance(value, list) and len(value) == depth > 2:
            changed[name] = _of_two_layers(value)
        elif name.endswith(("token_id", "token_index")) and isinstance(value, int):
            changed[name] = 60
    changed |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    # BERT and its like can read from left to right too.
    if "is_decoder" in values:
        changed["is_decoder"] = True
    return type(config)(**(changed | _SPECIAL.get(config.model_type, {})))


def tiny(family: str, **options: Any) -> Any:
    """A model of a family, the same each time; options take the place of values of its configuration."""
    config = CONFIG_MAPPING[family]()
    config = _small(config.get_text_config() if family in _TEXT_ALONE else config)
    for name, value in options.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    # Biases and the like begin as zeros, which would hide that they are left out.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model
