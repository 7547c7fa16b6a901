"""Writes tiny releases of BLSP-Emo and RE-LLM: original names, shards, configuration and tokenizer file."""

import json

import torch
from safetensors.torch import save_file

from tests.conversion.test_qwen_tokenizer import train_ranks, write_tiktoken

TEXT = "Hello there, how are you? I am not sure what you are saying. The weather is nice. " * 3
VOCABULARY = 520
RANKS = train_ranks(TEXT, 300)


def grown(state):
    """The golden state with rows for a real vocabulary; the first rows stay as they are."""
    generator = torch.Generator().manual_seed(1)
    larger = dict(state)
    for key in [key for key in state if key.endswith(("transformer.wte.weight", "lm_head.weight"))]:
        rows = torch.randn(VOCABULARY - len(state[key]), state[key].shape[1], generator=generator)
        larger[key] = torch.cat([state[key], rows])
    return larger


def write_shards(folder, state, layout):
    """Save as the release does (two pickles and an index), as one pickle, or as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in state.items()}
    if layout == "safetensors":
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif layout == "single":
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        keys, places = sorted(state), {}
        for number, part in enumerate((keys[::2], keys[1::2]), 1):
            name = f"pytorch_model-{number:05d}-of-00002.bin"
            torch.save({key: state[key] for key in part}, folder / name)
            places |= dict.fromkeys(part, name)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


def write_release(folder, state, config, layout="shards"):
    """A release from a golden state and its configuration."""
    write_shards(folder, grown(state), layout)
    values = dict(config["blsp"])
    values["whisper_config"] = config["whisper"] | {"max_length": 448, "suppress_tokens": [], "torch_dtype": "float32"}
    values["qwen_config"] = config["qwen"] | {"vocab_size": VOCABULARY, "model_type": "qwen"}
    (folder / "config.json").write_text(json.dumps(values))
    write_tiktoken(folder / "qwen.tiktoken", RANKS)
    return folder
