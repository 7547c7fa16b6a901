"""A tiny checkpoint in exactly the form in which FreezeEmpath was released."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, WhisperModel

from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.fusion import GatedFusion, SummedFusion
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from tests.conftest import whisper_config

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

UNITS = {"<sep>": 35, **{f"<{unit}>": 36 + unit for unit in range(64)}}
QWEN = {
    "vocab_size": 37, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "bos_token_id": 32, "eos_token_id": 34, "tie_word_embeddings": False,
}  # fmt: skip
DECODER = QWEN | {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 80, "eos_token_id": 32, "tie_word_embeddings": True,
}  # fmt: skip
CONFIG = QWEN | {"speech_generator": DECODER, "stream_params": "(3,5)", "add_token_embeddings": True}


def encoder_names():
    """transformers' names of the encoder's weights by openai-whisper's."""
    names = dict(WHISPER)
    for layer in range(whisper_config().encoder_layers):
        names |= {f"blocks.{layer}.{old}": f"layers.{layer}.{new}" for old, new in WHISPER_BLOCK.items()}
    return names


def released_state(linear=False, gate=True):
    """Random weights of the real classes, under the release's names."""
    torch.manual_seed(3)

    def qwen(config):
        return Qwen2ForCausalLM(Qwen2Config(**config)).state_dict()

    speech = whisper_config()
    speech.d_model, speech.encoder_attention_heads = 64, 1
    names = {new: old for old, new in encoder_names().items()}
    encoder = WhisperModel(speech).encoder.state_dict()
    adapter, nuance = SpeechAdapter(64, 48, 40), EmotionNuance(64, 48, hidden_size=24, gate_size=8)
    projection = 0 if linear else 70
    fusion = (GatedFusion if gate else SummedFusion)(projection).build(48, 32).state_dict()
    unit_model = {k: v for k, v in qwen(DECODER).items() if k != "lm_head.weight"}
    parts = {
        "": qwen(QWEN),
        "model.speech_encoder.": {names[key]: value for key, value in encoder.items()},
        "model.speech_projector.": adapter.state_dict(),
        "model.emotion_extractor.": nuance.extractor.state_dict(),
        "hidden2emotion.": nuance.categorical_head.state_dict(),
        "speech_generator.": fusion,
        "speech_generator.model.": unit_model,
    }
    return {prefix + key: value for prefix, part in parts.items() for key, value in part.items()}


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


def edit(file, **changes):
    write_json(file, json.loads(file.read_text()) | changes)


def rewritten(release, change):
    """Change the tensors of every shard; those that become None are left out."""
    places = {}
    for shard in release.glob("*.safetensors"):
        kept = {key: new for key, value in load_file(shard).items() if (new := change(key, value)) is not None}
        save_file(kept, shard)
        places |= dict.fromkeys(kept, shard.name)
    edit(release / "model.safetensors.index.json", weight_map=places)


def without(release, lost):
    rewritten(release, lambda key, value: None if key == lost else value)
