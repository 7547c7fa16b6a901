"""A tiny checkpoint in exactly the form in which FreezeEmpath was released."""

import json

from safetensors.torch import save_file

WORDS = "abcdefghijklmnopqrstuvwxyzABCDEF"
"""The words 0..31 of the tiny vocabulary, one letter each."""

CHATML = {"<|endoftext|>": 32, "<|im_start|>": 33, "<|im_end|>": 34}

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


def write_tokenizer(folder, added, chat_template=None):
    """The files of a slow Qwen2 tokenizer; there is no tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = {
        str(index): {"content": token, "special": token in CHATML}
        | dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
        for token, index in added.items()
    }
    config = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config |= {"unk_token": None, "bos_token": None, "add_prefix_space": False, "model_max_length": 4096}
    config |= {"added_tokens_decoder": listed, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    if chat_template is not None:
        config["chat_template"] = chat_template
    write_json(folder / "vocab.json", {letter: index for index, letter in enumerate(WORDS)})
    write_json(folder / "added_tokens.json", added)
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    (folder / "merges.txt").write_text("#version: 0.2\n")


def write_release(folder, state, config, units, chat_template=None, shards=4):
    """Shards with their index, config.json, the tokenizer and tts_tokenizer/.

    Args:
        units: Ids of <sep> and of the units, in the order of the speech tokenizer.
    """
    write_tokenizer(folder, CHATML | {"<speech>": 35, "<emotion>": 36}, chat_template)
    write_tokenizer(folder / "tts_tokenizer", CHATML | units)
    facts = {"architectures": ["Omni2Speech2SQwen2ForCausalLM"], "model_type": "omni2_speech2s_qwen2"}
    write_json(folder / "config.json", config | facts)
    places = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        keys = sorted(state)[shard * len(state) // shards : (shard + 1) * len(state) // shards]
        save_file({key: state[key].contiguous() for key in keys}, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(keys, name)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def write_json(file, content):
    file.write_text(json.dumps(content))
