"""From FreezeEmpath's released checkpoint to our folder (arXiv 2604.18159; ``ICTNLP/FreezeEmpath``).

The release is one model in safetensors shards under its authors' names: Qwen2.5, an
openai-whisper encoder, the adapter, the emotion extractor and the speech decoder. Ours
has the two frozen backbones as plain transformers folders and the trained parts beside
them. Sizes are read from the shapes, token ids from the tokenizers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from empathy_lightning import __version__
from empathy_lightning.conversion.model_entry import model_entry, path_of
from empathy_lightning.conversion.names import QWEN2_CONFIG, WHISPER, WHISPER_BLOCK, qwen2_layers
from empathy_lightning.conversion.outcome import ConversionReport, new_folder
from empathy_lightning.conversion.stored_tensors import StoredTensor, read_checkpoint, write_shards, write_tensors
from empathy_lightning.conversion.tokenizer import copy_tokenizer, read_json, token_ids, unit_ids
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION

EMOTIONS = ["angry", "surprised", "happy", "sad", "neutral"]
"""Order of the released emotion head."""

EXTRACTOR = [
    "gate_fc1.weight", "gate_fc1.bias", "gate_fc2.weight", "gate_fc2.bias", "layernorm.weight", "layernorm.bias",
    "attn_pool.latent_queries", "attn_pool.multihead_attn.in_proj_weight", "attn_pool.multihead_attn.in_proj_bias",
    "attn_pool.multihead_attn.out_proj.weight", "attn_pool.multihead_attn.out_proj.bias",
    "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
]  # fmt: skip

LINEARS = ["linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]

ENCODER = "model.speech_encoder."

WHISPER_LARGE = "openai/whisper-large-v3"
"""The encoder that was frozen; it stands in where the shards leave it out."""

_CLASSES = {
    "speech_encoder": "empathy_lightning.modules.speech_encoder.SpeechEncoder",
    "language_model": "empathy_lightning.modules.language_model.LanguageModel",
    "speech_adapter": "empathy_lightning.modules.speech_adapter.SpeechAdapter",
    "emotion_nuance": "empathy_lightning.modules.emotion_nuance.EmotionNuance",
    "speech_decoder": "empathy_lightning.modules.speech_decoder.SpeechDecoder",
}

DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


class _Source:
    """Tensors of the release, each noted as used when it is taken, as missing when it is not there."""

    def __init__(self, tensors: dict[str, StoredTensor]) -> None:
        self.tensors = tensors
        self.report = ConversionReport()

    def take(self, renamed: Iterable[tuple[str, str]]) -> dict[str, StoredTensor]:
        """Tensors by their new names, for pairs of old and new."""
        taken = {}
        for old, new in renamed:
            if old in self.tensors:
                taken[new] = self.tensors[old]
                self.report.used.append(old)
            else:
                self.report.missing.append(old)
        return taken

    def size(self, key: str, axis: int) -> int:
        """Size of a tensor along an axis; 1 of one that is missing, which ends the conversion anyway."""
        return self.tensors[key].shape[axis] if key in self.tensors else 1

    def layers(self, prefix: str) -> int:
        """Number of layers under a prefix that ends before their indices."""
        pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
        return max((int(match[1]) + 1 for key in self.tensors if (match := pattern.match(key))), default=1)


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert a released checkpoint; memory stays at some megabytes whatever its size.

    Args:
        source: Folder with config.json, safetensors shards and index, the tokenizer and ``tts_tokenizer/``.
        out: Folder to write; it appears whole or not at all.
        dry_run: Only look, and write nothing.

    Returns:
        What became of every key; also written to ``conversion.json``. Shards without an encoder miss
        ``model.speech_encoder.*``, and the folder names Whisper large-v3 for it.

    Raises:
        InputError: If the source is incomplete, damaged or of another form, or ``out`` is there already.
    """
    source, out = Path(source), Path(out)
    if not dry_run:
        check_new_folder(out)
    config = read_json(source / "config.json")
    if not isinstance(config.get("speech_generator"), dict):
        raise InputError(f"{source} is no FreezeEmpath checkpoint: its config.json has no speech_generator")
    token_ids(source, ["<speech>", "<emotion>"])
    keys = _Source(read_checkpoint(source))
    encoder, encoder_config = _speech_encoder(keys, config)
    language_model, language_model_config = _language_model(keys, config)
    adapter, adapter_arguments = _speech_adapter(keys)
    nuance, nuance_arguments = _emotion_nuance(keys)
    decoder, decoder_arguments = _speech_decoder(keys, config, source / "tts_tokenizer")
    keys.report.left_over += sorted(set(keys.tensors) - set(keys.report.used))
    if dry_run:
        return keys.report
    if missing := [key for key in keys.report.missing if key != f"{ENCODER}*"]:
        raise InputError(f"{source} lacks {len(missing)} weights, first {missing[0]}; --dry_run lists them all")
    with new_folder(out, source) as partial:
        if encoder:
            write_tensors(partial / "speech_encoder" / "model.safetensors", encoder)
            _write_json(partial / "speech_encoder" / "config.json", encoder_config)
        copy_tokenizer(source, partial / "language_model")
        write_shards(partial / "language_model", language_model)
        _write_json(partial / "language_model" / "config.json", language_model_config)
        write_tensors(partial / "model.safetensors", adapter | nuance | decoder)
        arguments = {
            "speech_adapter": adapter_arguments,
            "emotion_nuance": nuance_arguments,
            "speech_decoder": decoder_arguments,
        }
        backbones = {
            "speech_encoder": {"name_or_path": "speech_encoder" if encoder else WHISPER_LARGE, "pad_to_30s": True},
            "language_model": {"name_or_path": "language_model", "dtype": language_model_config["dtype"]},
        }
        _write_json(partial / "config.json", _our_config(backbones, arguments))
        keys.report.write(partial / "conversion.json")
    return keys.report


def _our_config(backbones: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    entries = {}
    for name, arguments in backbones.items():
        entries[name] = {"class_path": f"{_CLASSES[name]}.from_pretrained", "init_args": arguments}
    for name, arguments in parts.items():
        entries[name] = {"class_path": _CLASSES[name], "init_args": arguments}
    model = model_entry(entries, SPEECH_AND_EMOTION, EMPATHY_SYSTEM, EMOTIONS)
    return {"library": "empathy_lightning", "version": __version__, "model": model}


def _speech_encoder(keys: _Source, config: dict[str, Any]) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    prefix = ENCODER
    if not any(key.startswith(prefix) for key in keys.tensors):
        keys.report.missing.append(f"{prefix}*")
        return {}, {}
    layers = keys.layers(f"{prefix}blocks.")
    pairs = [(prefix + old, f"encoder.{new}") for old, new in WHISPER.items()]
    for layer in range(layers):
        pairs += [
            (f"{prefix}blocks.{layer}.{old}", f"encoder.layers.{layer}.{new}") for old, new in WHISPER_BLOCK.items()
        ]
    tensors = keys.take(pairs)
    width = keys.size(f"{prefix}conv1.weight", 0)
    # transformers wants a decoder beside the encoder: none of its layers, and four tensors that nothing reads.
    if "encoder.embed_positions.weight" in tensors:
        row = tensors["encoder.embed_positions.weight"].rows([range(1)])
        tensors |= dict.fromkeys(("decoder.embed_tokens.weight", "decoder.embed_positions.weight"), row)
        vector = StoredTensor(row.dtype, (width,), row.spans)
        tensors |= dict.fromkeys(("decoder.layer_norm.weight", "decoder.layer_norm.bias"), vector)
    whisper = {
        "model_type": "whisper", "architectures": ["WhisperModel"], "is_encoder_decoder": True,
        "num_mel_bins": keys.size(f"{prefix}conv1.weight", 1), "d_model": width, "encoder_layers": layers,
        "encoder_attention_heads": _whisper_heads(config, width),
        "encoder_ffn_dim": keys.size(f"{prefix}blocks.0.mlp.0.weight", 0),
        "max_source_positions": keys.size(f"{prefix}positional_embedding", 0),
        "decoder_layers": 0, "decoder_attention_heads": 1, "decoder_ffn_dim": 1, "max_target_positions": 1,
        "vocab_size": 1, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0,
    }  # fmt: skip
    return tensors, whisper


def _whisper_heads(config: dict[str, Any], width: int) -> int:
    """Shapes do not tell the heads: every Whisper's are 64 wide; a smaller encoder's dimensions stand in the config."""
    if dims := config.get("tiny_whisper_dims"):
        return int(dims[3])
    if width % 64 and width > 1:
        raise InputError(f"a Whisper encoder {width} wide is unknown: its heads should be 64 wide")
    return max(1, width // 64)


def _language_model(keys: _Source, config: dict[str, Any]) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    names = [
        "model.embed_tokens.weight",
        "model.norm.weight",
        *qwen2_layers("model.", _number(config, "num_hidden_layers")),
    ]
    if "lm_head.weight" in keys.tensors or not config.get("tie_word_embeddings", False):
        names.append("lm_head.weight")
    tensors = keys.take((name, name) for name in names)
    stored = next(iter(tensors.values())).dtype if tensors else "F32"
    if stored not in DTYPES:
        raise InputError(f"the language model's weights are {stored}, but only {', '.join(DTYPES)} can be converted")
    own = {name: config[name] for name in QWEN2_CONFIG if name in config}
    return tensors, {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "dtype": DTYPES[stored], **own}


def _speech_adapter(keys: _Source) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    prefix = "model.speech_projector."
    tensors = keys.take((prefix + name, f"{path_of('speech_adapter')}.{name}") for name in LINEARS)
    width = keys.size("model.emotion_extractor.layernorm.weight", 0)
    return tensors, {
        "input_size": width,
        "output_size": keys.size(f"{prefix}linear2.weight", 0),
        "hidden_size": keys.size(f"{prefix}linear1.weight", 0),
        "downsampling": keys.size(f"{prefix}linear1.weight", 1) // width,
        "drop_incomplete": True,
    }


def _emotion_nuance(keys: _Source) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    prefix = "model.emotion_extractor."
    place = path_of("emotion_nuance")
    pairs = [(prefix + name, f"{place}.extractor.{name}") for name in EXTRACTOR]
    tensors = keys.take([*pairs, ("hidden2emotion.weight", f"{place}.categorical_head.weight")])
    categories = keys.size("hidden2emotion.weight", 0)
    if "hidden2emotion.weight" in keys.tensors and categories != len(EMOTIONS):
        raise InputError(f"the emotion head has {categories} categories, but {', '.join(EMOTIONS)} are known")
    return tensors, {
        "input_size": keys.size(f"{prefix}linear1.weight", 1),
        "output_size": keys.size(f"{prefix}linear2.weight", 0),
        "num_emotions": categories,
        "hidden_size": keys.size(f"{prefix}linear1.weight", 0),
        "gate_size": keys.size(f"{prefix}gate_fc1.weight", 0),
        "rate_dimensions": False,
    }


def _speech_decoder(
    keys: _Source, config: dict[str, Any], tokenizer: Path
) -> tuple[dict[str, StoredTensor], dict[str, Any]]:
    prefix, own = "speech_generator.", config["speech_generator"]
    (separator,) = token_ids(tokenizer, ["<sep>"])
    units = unit_ids(tokenizer)
    text_size = min(separator, *units)
    embedding = f"{prefix}model.model.embed_tokens.weight"
    linear = f"{prefix}input_proj.weight" in keys.tensors
    names = ["input_proj.weight", "input_proj.bias"] if linear else []
    names = names or [f"input_proj.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")]
    fusion = "sum" if config.get("add_token_embeddings", True) else "states"
    if f"{prefix}gate.0.weight" in keys.tensors or config.get("add_gate_fusion", False):
        fusion = "gate"
        names += ["gate.0.weight", "gate.0.bias"]
    names += ["model.model.embed_tokens.weight", "model.model.norm.weight"]
    names += qwen2_layers("model.model.", _number(own, "num_hidden_layers"))
    tensors = keys.take((prefix + name, f"{path_of('speech_decoder')}.{name}") for name in names)
    if embedding in keys.tensors:
        _check_tied(keys, embedding)
        stored = keys.tensors[embedding]
        if max(separator, *units) >= stored.shape[0]:
            raise InputError(f"{tokenizer} has ids up to {max(separator, *units)}, {embedding} {stored.shape[0]} rows")
        # Ours stand in one order whatever the tokenizer's: text, end of text, units.
        rows = [range(text_size), range(separator, separator + 1), *_runs(units)]
        tensors[f"{path_of('speech_decoder')}.model.model.embed_tokens.weight"] = stored.rows(rows)
    return tensors, {
        "input_size": _number(config, "hidden_size"),
        "text_vocab_size": text_size,
        "end_token_id": _number(own, "eos_token_id"),
        "num_units": len(units),
        "hidden_size": keys.size(embedding, 1),
        "num_layers": _number(own, "num_hidden_layers"),
        "num_heads": _number(own, "num_attention_heads"),
        "schedule": _schedule(config.get("stream_params")),
        "num_key_value_heads": _number(own, "num_key_value_heads"),
        "intermediate_size": _number(own, "intermediate_size"),
        "rope_theta": own.get("rope_theta", 10_000.0),
        "projection_size": 0 if linear else keys.size(f"{prefix}input_proj.0.weight", 0),
        "fusion": fusion,
        "released_rules": True,
    }


def _number(config: dict[str, Any], name: str) -> int:
    if not isinstance(config.get(name), int):
        raise InputError(f"config.json has no number for {name}, but {config.get(name)!r}")
    return int(config[name])


def _check_tied(keys: _Source, embedding: str) -> None:
    """The head of the units is the embedding; where it is stored too, it must be the same bytes."""
    head = "speech_generator.model.lm_head.weight"
    if head not in keys.tensors:
        return
    stored, other = keys.tensors[embedding], keys.tensors[head]
    if stored.shape != other.shape or any(a != b for a, b in zip(stored.read(), other.read(), strict=True)):
        raise InputError(f"{head} is not the embedding's: a head of its own cannot be converted")
    keys.report.used.append(head)


def _runs(ids: list[int]) -> list[range]:
    """Ids in their order as ranges of neighbours."""
    runs = [range(ids[0], ids[0] + 1)]
    for value in ids[1:]:
        if value == runs[-1].stop:
            runs[-1] = range(runs[-1].start, value + 1)
        else:
            runs.append(range(value, value + 1))
    return runs


def _schedule(text: Any) -> list[int]:
    """Reading and writing turns from a string such as ``"(3,15)"``, which is parsed and never evaluated."""
    match = re.fullmatch(r"\s*[(\[]\s*([1-9]\d*)\s*,\s*([1-9]\d*)\s*[)\]]\s*", str(text))
    if match is None:
        raise InputError(f"stream_params {text!r} in config.json is not two numbers such as '(3,15)'")
    return [int(match[1]), int(match[2])]


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
