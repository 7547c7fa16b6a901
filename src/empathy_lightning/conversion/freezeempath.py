"""From FreezeEmpath's released checkpoint to our folder (arXiv 2604.18159; ``ICTNLP/FreezeEmpath``).

The release is one model in safetensors shards under its authors' names: Qwen2.5, an
openai-whisper encoder, the adapter, the emotion extractor and the speech decoder. Ours
has the two frozen backbones as plain transformers folders and the trained parts beside
them. Sizes are read from the shapes, token ids from the tokenizers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM

from empathy_lightning.conversion.model_entry import model_entry, path_of
from empathy_lightning.conversion.outcome import ConversionReport, new_folder
from empathy_lightning.conversion.placing import Found, finish, place, renamed, shape_of
from empathy_lightning.conversion.qwen import plain_qwen2_config
from empathy_lightning.conversion.released import number, read_json, read_weights, write_model
from empathy_lightning.conversion.tokenizer import copy_tokenizer, token_ids, unit_ids
from empathy_lightning.conversion.whisper import openai_encoder, openai_names
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder
from empathy_lightning.folders import write_folder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.fusion import Fusion, GatedFusion, StatesAlone, SummedFusion
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.parts import described, entry
from empathy_lightning.prompts import EMPATHY_SYSTEM, SPEECH_AND_EMOTION

EMOTIONS = ["angry", "surprised", "happy", "sad", "neutral"]
"""Order of the released emotion head."""

WHISPER_LARGE = "openai/whisper-large-v3"
"""The encoder that was frozen; it stands in where the shards leave it out."""

_NO_ENCODER = "speech_encoder.*"
_ENCODER = "model.speech_encoder."
_ADAPTER = "model.speech_projector."
_EXTRACTOR = "model.emotion_extractor."
_DECODER = "speech_generator."
_EMBEDDINGS = ("model.model.embed_tokens.weight", "model.lm_head.weight")


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert a released checkpoint; its weights are mapped into memory, not read.

    Args:
        source: Folder with config.json, weights in any layout, the tokenizer and ``tts_tokenizer/``.
        out: Folder to write; it appears whole or not at all.
        dry_run: Only look, and write nothing.

    Returns:
        What became of every key; also written to ``conversion.json``. Weights without an encoder miss
        ``speech_encoder.*``, and the folder names Whisper large-v3 for it.

    Raises:
        InputError: If the source is incomplete, damaged or of another form, or ``out`` is there already.
    """
    source, out = Path(source), Path(out)
    if not dry_run:
        check_new_folder(out)
    config = _read_config(source)
    weights = read_weights(source)
    text_size, markers = _unit_vocabulary(source / "tts_tokenizer")
    with torch.device("meta"):
        modules = _modules(weights, config, text_size, len(markers) - 1)
    names = _names(weights, [*range(text_size), *markers])
    report = ConversionReport()
    placed = {part: place(report, part, module, names[part]) for part, module in modules.items()}
    if "speech_encoder" not in modules:
        report.missing.append(_NO_ENCODER)
    finish(report, weights, dry_run, (_NO_ENCODER,))
    if not dry_run:
        with new_folder(out, source) as folder:
            _write(folder, source, modules, placed)
            report.write(folder / "conversion.json")
    return report


def _read_config(source: Path) -> dict[str, Any]:
    config = read_json(source / "config.json")
    if not isinstance(config.get("speech_generator"), dict):
        raise InputError(f"{source} is no FreezeEmpath checkpoint: its config.json has no speech_generator")
    token_ids(source, ["<speech>", "<emotion>"])
    return config


def _unit_vocabulary(tokenizer: Path) -> tuple[int, list[int]]:
    """Number of tokens of text, and the ids of what ours has behind them: the end of the text, then the units."""
    markers = [*token_ids(tokenizer, ["<sep>"]), *unit_ids(tokenizer)]
    return min(markers), markers


def _modules(weights: dict[str, Tensor], config: dict[str, Any], text_size: int, units: int) -> dict[str, nn.Module]:
    """Backbones and trained parts of the release's sizes."""
    modules: dict[str, nn.Module] = {}
    if any(key.startswith(_ENCODER) for key in weights):
        # An encoder smaller than Whisper's own has its dimensions in the configuration, the heads fourth.
        dimensions = config.get("tiny_whisper_dims")
        heads = int(dimensions[3]) if dimensions else None
        modules["speech_encoder"] = openai_encoder(weights, _ENCODER, heads)
    modules["language_model"] = Qwen2ForCausalLM(plain_qwen2_config(config))
    modules["speech_adapter"] = _speech_adapter(weights)
    modules["emotion_nuance"] = _emotion_nuance(weights)
    modules["speech_decoder"] = _speech_decoder(weights, config, text_size, units)
    return modules


def _speech_adapter(weights: dict[str, Tensor]) -> SpeechAdapter:
    width = shape_of(weights, f"{_EXTRACTOR}layernorm.weight")[0]
    hidden, joined = shape_of(weights, f"{_ADAPTER}linear1.weight")
    output = shape_of(weights, f"{_ADAPTER}linear2.weight")[0]
    return SpeechAdapter(width, output, hidden, joined // width, drop_incomplete=True)


def _emotion_nuance(weights: dict[str, Tensor]) -> EmotionNuance:
    categories, output = shape_of(weights, "hidden2emotion.weight")
    if categories != len(EMOTIONS):
        raise InputError(f"the emotion head has {categories} categories, but {', '.join(EMOTIONS)} are known")
    hidden, width = shape_of(weights, f"{_EXTRACTOR}linear1.weight")
    gate = shape_of(weights, f"{_EXTRACTOR}gate_fc1.weight")[0]
    return EmotionNuance(width, output, categories, hidden, gate, rate_dimensions=False)


def _speech_decoder(weights: dict[str, Tensor], config: dict[str, Any], text_size: int, units: int) -> SpeechDecoder:
    own = config["speech_generator"]
    linear = f"{_DECODER}input_proj.weight" in weights
    kind: type[Fusion] = SummedFusion if config.get("add_token_embeddings", True) else StatesAlone
    if f"{_DECODER}gate.0.weight" in weights or config.get("add_gate_fusion", False):
        kind = GatedFusion
    fused_size = 0 if linear else shape_of(weights, f"{_DECODER}input_proj.0.weight")[0]
    body = Qwen2Body(
        hidden_size=shape_of(weights, _DECODER + _EMBEDDINGS[0])[1],
        num_layers=number(own, "num_hidden_layers"),
        num_heads=number(own, "num_attention_heads"),
        num_key_value_heads=number(own, "num_key_value_heads"),
        intermediate_size=number(own, "intermediate_size"),
        rope_theta=own.get("rope_theta", 10_000.0),
    )
    return SpeechDecoder(
        input_size=number(config, "hidden_size"),
        text_vocab_size=text_size,
        end_token_id=number(own, "eos_token_id"),
        num_units=units,
        body=body,
        fusion=kind(fused_size),
        schedule=_schedule(config.get("stream_params")),
        released_rules=True,
    )


def _schedule(text: Any) -> tuple[int, int]:
    """Reading and writing turns from a string such as ``"(3,15)"``, which is parsed and never evaluated."""
    match = re.fullmatch(r"\s*[(\[]\s*([1-9]\d*)\s*,\s*([1-9]\d*)\s*[)\]]\s*", str(text))
    if match is None:
        raise InputError(f"stream_params {text!r} in config.json is not two numbers such as '(3,15)'")
    return int(match[1]), int(match[2])


def _names(weights: dict[str, Tensor], rows: list[int]) -> dict[str, Found]:
    """The source's weights under our names, part by part; the decoder's embeddings with these rows."""
    decoder = renamed(weights, _DECODER, {"input_proj": "fused.input_proj", "gate": "fused.gate"})
    for name in _EMBEDDINGS:
        if name in decoder:
            key, stored = decoder[name]
            if max(rows) >= len(stored):
                raise InputError(f"tts_tokenizer has ids up to {max(rows)}, {key} {len(stored)} rows")
            decoder[name] = key, stored[rows]
    head = renamed(weights, "hidden2emotion.", under="categorical_head.")
    return {
        "speech_encoder": openai_names(weights, _ENCODER),
        "language_model": renamed(weights, ""),
        "speech_adapter": renamed(weights, _ADAPTER),
        "emotion_nuance": head | renamed(weights, _EXTRACTOR, under="extractor."),
        "speech_decoder": decoder,
    }


def _write(folder: Path, source: Path, modules: dict[str, Any], placed: dict[str, dict[str, Tensor]]) -> None:
    encoder = WHISPER_LARGE
    if "speech_encoder" in placed:
        encoder = "speech_encoder"
        write_model(folder / encoder, modules[encoder].config, placed[encoder])
    copy_tokenizer(source, folder / "language_model")
    write_model(folder / "language_model", modules["language_model"].config, placed["language_model"])
    precision = str(modules["language_model"].config.dtype).removeprefix("torch.")
    entries = {
        "speech_encoder": entry(SpeechEncoder, {"name_or_path": encoder, "pad_to_30s": True}, loaded=True),
        "language_model": entry(LanguageModel, {"name_or_path": "language_model", "dtype": precision}, loaded=True),
    }
    trained: dict[str, Tensor] = {}
    for part in ("speech_adapter", "emotion_nuance", "speech_decoder"):
        entries[part] = described(modules[part], part)
        trained |= {f"{path_of(part)}.{name}": tensor for name, tensor in placed[part].items()}
    write_folder(folder, model_entry(entries, SPEECH_AND_EMOTION, EMPATHY_SYSTEM, EMOTIONS), trained)
