"""From BLSP-Emo's released checkpoint to our folder (``cwang621/blsp-emo``; Apache-2.0, Qwen under its own terms).

The release is one state dict: a Whisper encoder, Qwen-7B-Chat with partial LoRA, the adapter
and the categorical head. Ours has the two backbones as plain transformers folders, Qwen-1 as
Qwen2, and the trained parts beside them. The heads for ratings, which BLSP-Emo lacks, start at zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM, Wav2Vec2Config, WhisperConfig

from empathy_lightning.conversion.audeering import OPTIONAL, emotion_encoder_names
from empathy_lightning.conversion.model_entry import model_entry, path_of
from empathy_lightning.conversion.outcome import ConversionReport, new_folder
from empathy_lightning.conversion.placing import Found, finish, place, renamed
from empathy_lightning.conversion.qwen import partial_lora_name, qwen2_config, qwen2_names, without_wrapper
from empathy_lightning.conversion.qwen_tokenizer import fast_tokenizer
from empathy_lightning.conversion.released import read_json, read_weights, write_model
from empathy_lightning.conversion.whisper import encoder_model
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_new_folder
from empathy_lightning.folders import write_folder
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.parts import described, entry
from empathy_lightning.utterance import RATINGS

EMOTIONS = ["neutral", "happy", "angry", "sad", "surprised"]
"""Order of the released head."""

SYSTEM = "You are a helpful assistant. Your response should fulfill requests with empathy toward user's emotion tone."
"""System message of the release's empathetic replies; the user's turn is the speech alone."""

_ADAPTER = {"subsampler.conv_layers": "convolutions", "fc1": "linear1", "fc2": "linear2", "speech_ln": "layernorm"}
_BACKBONES = {"speech_encoder": SpeechEncoder, "language_model": LanguageModel, "emotion_encoder": EmotionEncoder}
_WHISPER = [
    "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins",
    "max_source_positions", "activation_function",
]  # fmt: skip


def convert(source: str | Path, out: str | Path, dry_run: bool = False) -> ConversionReport:
    """Convert a folder with BLSP-Emo's files: config.json, weights in any layout, and qwen.tiktoken.

    Args:
        source: Folder of the release.
        out: Folder to make.
        dry_run: Read and report only.

    Raises:
        InputError: If files or weights are missing, or do not fit the configuration.
    """
    source, out = Path(source), Path(out)
    if not dry_run:
        check_new_folder(out)
    return convert_release(source, out, dry_run, read_weights(source))


def convert_release(
    source: Path, out: Path, dry_run: bool, weights: dict[str, Tensor], emotion_config: Wav2Vec2Config | None = None
) -> ConversionReport:
    """Convert BLSP-Emo or, with the configuration of an emotion encoder, RE-LLM."""
    report = ConversionReport()
    config = read_json(source / "config.json")
    tokenizer = fast_tokenizer(source / "qwen.tiktoken")
    try:
        with torch.device("meta"):
            backbones, parts = _modules(config, emotion_config)
    except (KeyError, TypeError) as error:
        raise InputError(f"{source}/config.json is no configuration of BLSP-Emo: {error!r}") from None
    if len(tokenizer) > backbones["language_model"].config.vocab_size:
        raise InputError(f"{source}/qwen.tiktoken has more tokens than the model: it belongs to another one")
    names = _names(weights, emotion_config is not None)
    placed = {part: place(report, part, module, names[part]) for part, module in (backbones | parts).items()}
    # BLSP-Emo has no heads for ratings.
    optional: tuple[str, ...] = (OPTIONAL,)
    if emotion_config is None:
        optional = tuple(f"emotion_nuance.{name}_head" for name in RATINGS)
    finish(report, weights, dry_run, optional)
    if not dry_run:
        with new_folder(out, source) as folder:
            _write(folder, backbones, parts, placed, tokenizer)
            report.write(folder / "conversion.json")
    return report


def _modules(
    config: dict[str, Any], emotion_config: Wav2Vec2Config | None
) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """Backbones and trained parts of the configured sizes."""
    if config.get("adapter_hidden_layers", 0):
        raise InputError("adapters with hidden layers were never released and cannot be converted")
    sizes = config["whisper_config"]
    whisper = encoder_model(**{name: sizes[name] for name in _WHISPER if name in sizes})
    qwen = qwen2_config(config["qwen_config"])
    backbones: dict[str, Any] = {"speech_encoder": whisper, "language_model": Qwen2ForCausalLM(qwen)}
    emotion_size = 0
    if emotion_config is not None:
        backbones["emotion_encoder"] = EmotionEncoder(emotion_config)
        emotion_size = emotion_config.hidden_size
    parts: dict[str, nn.Module] = {
        "speech_adapter": _adapter(config, whisper.config, qwen, emotion_size),
        "emotion_nuance": PooledEmotionHeads(qwen.hidden_size, config.get("num_emotions", 5)),
    }
    if lora := config.get("lora_config"):
        parts["partial_lora"] = PartialLora(
            qwen.hidden_size, qwen.intermediate_size, qwen.num_hidden_layers, None, lora["r"], lora["lora_alpha"],
            lora.get("lora_dropout", 0.0), config.get("lora_scope", "audio"),
        )  # fmt: skip
    return backbones, parts


def _adapter(config: dict[str, Any], whisper: WhisperConfig, qwen: Any, emotion_size: int) -> nn.Module:
    if config.get("adapter_type", "subsampler") == "cformer" and not emotion_size:
        before, after = config.get("num_pre_cif_layers", 4), config.get("num_post_cif_layers", 4)
        return CFormer(whisper.d_model, qwen.hidden_size, qwen.vocab_size, whisper.encoder_ffn_dim, 8, before, after)
    kernels = tuple(int(kernel) for kernel in config.get("conv_kernel_sizes", "5,5,5").split(","))
    inner = config.get("adapter_inner_dim", 512)
    return ConvolutionalAdapter(whisper.d_model, qwen.hidden_size, inner, emotion_size, kernels)


def _names(weights: dict[str, Tensor], with_emotion: bool) -> dict[str, Found]:
    """The source's weights under our names, part by part."""
    bare = {name: (key, weights[key]) for key, name in without_wrapper(weights, "qwen_model.").items()}
    language_model: Found = {}
    partial_lora: Found = {}
    for name, (key, value) in bare.items():
        # Query, key and value are one weight in Qwen-1, and thirds of it here.
        names = qwen2_names(name)
        for own, part in zip(names, value.chunk(max(1, len(names))), strict=False):
            language_model[own] = (key, part)
        factor = partial_lora_name(name)
        if factor is not None:
            partial_lora[factor] = (key, value)
    heads = renamed(weights, "hidden2emotion.", under="categorical_head.")
    if "hidden2w2v2.weight" in weights:
        # One row each of the three ratings, which have heads of their own here.
        rows = weights["hidden2w2v2.weight"].split(1)
        for rating, row in zip(RATINGS, rows, strict=False):
            heads[f"{rating}_head.weight"] = ("hidden2w2v2.weight", row)
    adapter = "w2v2cat_adapter." if with_emotion else "adapter."
    return {
        "speech_encoder": renamed(weights, "whisper_model.", under="encoder."),
        "language_model": language_model,
        "emotion_encoder": emotion_encoder_names(weights, "w2v2."),
        "speech_adapter": renamed(weights, adapter, _ADAPTER),
        "emotion_nuance": heads,
        "partial_lora": partial_lora,
    }


def _write(
    folder: Path, backbones: dict[str, Any], parts: dict[str, nn.Module], placed: dict[str, dict[str, Tensor]],
    tokenizer: Any,
) -> None:  # fmt: skip
    sources: dict[str, dict[str, Any]] = {}
    for name, module in backbones.items():
        if name == "language_model":
            module.config.eos_token_id, module.config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        config = module.wav2vec2.config if name == "emotion_encoder" else module.config
        write_model(folder / name, config, placed[name])
        sources[name] = {"name_or_path": name, "revision": None}
        if name == "language_model":
            sources[name]["dtype"] = str(config.dtype).removeprefix("torch.")
    tokenizer.save_pretrained(folder / "language_model")
    # Released models heard speech with silence up to 30 s after it, and were then given the speech's frames.
    sources["speech_encoder"] |= {"pad_to_30s": True, "cut_padding": True}
    trained: dict[str, Tensor] = {}
    # Heads that the release lacks stay at zero; those it has are written over this.
    for name, weight in parts["emotion_nuance"].state_dict().items():
        trained[f"{path_of('emotion_nuance')}.{name}"] = torch.zeros(weight.shape)
    for part in parts:
        for name, value in placed[part].items():
            trained[f"{path_of(part)}.{name}"] = value.float()
    entries = {name: entry(_BACKBONES[name], source, loaded=True) for name, source in sources.items()}
    entries |= {name: described(module, name) for name, module in parts.items()}
    untrained = [name for name in RATINGS if f"{name}_head.weight" not in placed["emotion_nuance"]]
    write_folder(folder, model_entry(entries, "{speech}", SYSTEM, EMOTIONS, untrained), trained)
