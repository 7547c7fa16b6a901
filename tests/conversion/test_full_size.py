"""The release at its real size, without its weights: files of the right length that hold nothing."""

import json
import math
import struct

import pytest
import torch
from transformers import AutoConfig, Qwen2ForCausalLM, WhisperModel

from empathy_lightning.conversion import freezeempath
from empathy_lightning.conversion.freezeempath import convert
from empathy_lightning.conversion.model_entry import path_of
from empathy_lightning.conversion.released import write_model
from empathy_lightning.folders import write_folder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.parts import build, entry
from tests.conversion.freezeempath_release import WHISPER_BLOCK, write_json, write_tokenizer
from tests.tiny import arguments_in

QWEN = {"bos_token_id": 151643, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32768}
CONFIG = QWEN | {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "eos_token_id": 151645, "tie_word_embeddings": False,
    "add_gate_fusion": True, "add_token_embeddings": True, "num_sample_turns_s2s": 1, "stream_params": "(3,15)",
    "speech_encoder": "models/speech_encoder/large-v3.pt", "speech_encoder_ds_rate": 5, "unit_vocab_size": 8192,
    "speech_generator": QWEN | {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 159858, "eos_token_id": 151643, "tie_word_embeddings": True,
    },
}  # fmt: skip


TRAINED = {
    "speech_projector.linear1.weight": [2048, 6400], "speech_projector.linear1.bias": [2048],
    "speech_projector.linear2.weight": [3584, 2048], "speech_projector.linear2.bias": [3584],
    "emotion_extractor.gate_fc1.weight": [128, 1280], "emotion_extractor.gate_fc1.bias": [128],
    "emotion_extractor.gate_fc2.weight": [1, 128], "emotion_extractor.gate_fc2.bias": [1],
    "emotion_extractor.layernorm.weight": [1280], "emotion_extractor.layernorm.bias": [1280],
    "emotion_extractor.attn_pool.latent_queries": [1, 1280],
    "emotion_extractor.attn_pool.multihead_attn.in_proj_weight": [3840, 1280],
    "emotion_extractor.attn_pool.multihead_attn.in_proj_bias": [3840],
    "emotion_extractor.attn_pool.multihead_attn.out_proj.weight": [1280, 1280],
    "emotion_extractor.attn_pool.multihead_attn.out_proj.bias": [1280],
    "emotion_extractor.linear1.weight": [2048, 1280], "emotion_extractor.linear1.bias": [2048],
    "emotion_extractor.linear2.weight": [3584, 2048], "emotion_extractor.linear2.bias": [3584],
}  # fmt: skip


def qwen_shapes(prefix, c):
    width, inner = c["hidden_size"], c["intermediate_size"]
    narrow = width * c["num_key_value_heads"] // c["num_attention_heads"]
    layer = {
        "self_attn.q_proj.weight": [width, width], "self_attn.q_proj.bias": [width],
        "self_attn.k_proj.weight": [narrow, width], "self_attn.k_proj.bias": [narrow],
        "self_attn.v_proj.weight": [narrow, width], "self_attn.v_proj.bias": [narrow],
        "self_attn.o_proj.weight": [width, width], "mlp.gate_proj.weight": [inner, width],
        "mlp.up_proj.weight": [inner, width], "mlp.down_proj.weight": [width, inner],
        "input_layernorm.weight": [width], "post_attention_layernorm.weight": [width],
    }  # fmt: skip
    shapes = {f"{prefix}embed_tokens.weight": [c["vocab_size"], width], f"{prefix}norm.weight": [width]}
    for index in range(c["num_hidden_layers"]):
        shapes |= {f"{prefix}layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def released_shapes():
    """Names and shapes of the release, from the sizes of its parts."""
    shapes = qwen_shapes("model.", CONFIG) | {"lm_head.weight": [152064, 3584], "hidden2emotion.weight": [5, 3584]}
    encoder = {"conv1.weight": [1280, 128, 3], "conv1.bias": [1280], "conv2.weight": [1280, 1280, 3]}
    encoder |= {"conv2.bias": [1280], "positional_embedding": [1500, 1280]}
    encoder |= {"ln_post.weight": [1280], "ln_post.bias": [1280]}
    block = {"mlp.0.weight": [5120, 1280], "mlp.0.bias": [5120], "mlp.2.weight": [1280, 5120]}
    for name in WHISPER_BLOCK:
        block.setdefault(name, [1280, 1280] if name.startswith("attn.") and name.endswith("weight") else [1280])
    encoder |= {f"blocks.{index}.{name}": shape for index in range(32) for name, shape in block.items()}
    shapes |= {f"model.speech_encoder.{name}": shape for name, shape in encoder.items()}
    shapes |= {f"model.{name}": shape for name, shape in TRAINED.items()}
    shapes |= qwen_shapes("speech_generator.model.model.", CONFIG["speech_generator"])
    fusion = {"input_proj.0.weight": [7168, 3584], "input_proj.0.bias": [7168], "input_proj.2.weight": [896, 7168]}
    fusion |= {"input_proj.2.bias": [896], "gate.0.weight": [896, 1792], "gate.0.bias": [896]}
    return shapes | {f"speech_generator.{name}": shape for name, shape in fusion.items()}


def write_empty_shards(folder, shapes, count=4):
    places, names = {}, sorted(shapes)
    for shard in range(count):
        file = f"model-{shard + 1:05d}-of-{count:05d}.safetensors"
        header, position = {}, 0
        for name in names[shard * len(names) // count : (shard + 1) * len(names) // count]:
            end = position + 2 * math.prod(shapes[name])
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [position, end]}
            position, places[name] = end, file
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + position)
    write_json(folder / "model.safetensors.index.json", {"weight_map": places})


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What a conversion of the full size would write: tensors by folder, and the configurations."""
    release = tmp_path / "release"
    chatml = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
    write_tokenizer(release, chatml | {"<speech>": 151665, "<emotion>": 151666})
    units = {f"<{unit}>": 151666 + unit for unit in range(8192)}
    write_tokenizer(release / "tts_tokenizer", chatml | {"<sep>": 151665} | units)
    write_json(release / "config.json", CONFIG)
    write_empty_shards(release, released_shapes())
    tensors = {}

    def note_model(folder, config, weights):
        least = min(weights, key=lambda name: weights[name].numel())
        write_model(folder, config, {least: weights[least]})
        tensors[folder.name] = weights

    def note_folder(folder, model, weights):
        write_folder(folder, model, {})
        tensors["trained"] = weights

    monkeypatch.setattr(freezeempath, "write_model", note_model)
    monkeypatch.setattr(freezeempath, "write_folder", note_folder)
    report = convert(release, tmp_path / "out")
    return report, tmp_path / "out", tensors


def test_every_weight_of_the_release_has_its_place_in_our_modules(written):
    report, out, tensors = written
    assert len(report.used) == len(released_shapes()) and not report.missing and not report.left_over
    assert sum(t.numel() for part in tensors.values() for t in part.values()) == pytest.approx(8.82e9, rel=2e-3)
    arguments = arguments_in(out)
    assert arguments["language_model"]["dtype"] == "bfloat16"
    assert arguments["speech_decoder"]["schedule"] == [3, 15]
    assert arguments["speech_decoder"]["num_units"] == 8192
    with torch.device("meta"):
        parts = {
            "speech_adapter": SpeechAdapter(**arguments["speech_adapter"]),
            "emotion_nuance": EmotionNuance(**arguments["emotion_nuance"]),
            "speech_decoder": build(entry(SpeechDecoder, arguments["speech_decoder"])),
        }
        language_model = Qwen2ForCausalLM(AutoConfig.from_pretrained(out / "language_model"))
        encoder = WhisperModel(AutoConfig.from_pretrained(out / "speech_encoder"))
    ours = {f"{path_of(name)}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    del ours["talker.speech_decoder.model.lm_head.weight"]
    for built, stored in (
        (ours, tensors["trained"]),
        (language_model.state_dict(), tensors["language_model"]),
        (encoder.state_dict(), tensors["speech_encoder"]),
    ):
        assert {key: value.shape for key, value in built.items()} == {k: t.shape for k, t in stored.items()}
        released = {t.dtype for key, t in stored.items() if not key.startswith("decoder.")}
        assert released == {torch.bfloat16}
    assert encoder.config.encoder_attention_heads == 20
    assert language_model.config.rope_parameters["rope_theta"] == 1e6
    assert parts["speech_decoder"].model.config.rope_parameters["rope_theta"] == 1e6
