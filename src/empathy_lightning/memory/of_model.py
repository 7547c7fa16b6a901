"""From a model without weights, as its configuration builds it, to the sizes of its memory."""

from __future__ import annotations

from typing import Any

from torch import nn

from empathy_lightning.errors import InputError
from empathy_lightning.memory.formulas import Blocks
from empathy_lightning.memory.step import Case, Hearing, Language, Weights
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.speech_decoder import SpeechDecoder

_BITS = {"bitsandbytes-4bit": 4.5, "torchao-int8": 8.0}
"""Bits of a quantised weight, with the scales: one number in float32 for 64 weights, or one for a row."""


def blocks_of(config: Any, model: nn.Module) -> Blocks:
    """Sizes of a causal language model of transformers.

    Args:
        config: Of the text model.
        model: It, perhaps without weights.

    Raises:
        InputError: If its blocks are of another kind than Llama's.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if not {"q_proj", "gate_proj", "down_proj"} <= names:
        raise InputError(f"memory knows language models with blocks like Llama's, not {type(model).__name__}'s")
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    return Blocks(
        config.num_hidden_layers,
        config.hidden_size,
        heads,
        heads * size,
        keys * size,
        config.intermediate_size,
        config.vocab_size,
        "q_norm" in names,
    )


def case_of(model: EmpatheticLM, size: int, segments: list[int | str]) -> Case:
    """The sizes of a model whose trained weights want a gradient.

    Args:
        model: Perhaps without weights.
        size: Bytes of a number in the arithmetic: 2 under mixed precision.
        segments: Of the prompt, see :class:`.step.Case`.

    Raises:
        InputError: If it has no language model, or parts whose memory is not known.
    """
    responder, listener = model.responder, model.listener
    if responder is None:
        raise InputError("memory counts trainings around a language model: this configuration has none")
    language_model = responder.language_model
    encoder = getattr(listener.speech_encoder, "encoder", None)
    if encoder is None or not hasattr(encoder.config, "encoder_ffn_dim"):
        raise InputError(f"memory knows Whisper's encoders, not {type(listener.speech_encoder).__name__}")
    talker = model.talker
    speaker = talker.speech_decoder if talker is not None and _trains(talker.speech_decoder) else None
    if speaker is not None and not isinstance(speaker, SpeechDecoder):
        raise InputError(f"memory knows SpeechDecoder, not {type(speaker).__name__}")
    of_model = language_model.model
    # What it reads is brought to its own precision, and by autocast to a lower one.
    arithmetic = min(size, of_model.dtype.itemsize)
    return Case(
        weights=_weights(model),
        language=Language(
            blocks_of(of_model.config.get_text_config(), of_model),
            of_model.dtype.itemsize,
            arithmetic,
            language_model.checkpointed,
            responder.partial_lora is not None and _trains(responder.partial_lora),
        ),
        size=size,
        encoder=(encoder.config.encoder_layers, encoder.config.d_model, encoder.config.encoder_ffn_dim),
        segments=tuple(segments),
        hearing=_hearing(listener),
        speaker=None if speaker is None else blocks_of(speaker.model.config, speaker.model),
    )


def _hearing(listener: Any) -> Hearing:
    adapter, nuance = listener.speech_adapter, listener.emotion_nuance
    inputs = 0
    if adapter is not None and _trains(adapter):
        inputs = sum(_input_width(layer) for layer in adapter.modules())
    reads_layers = nuance is not None and getattr(nuance, "reads", "layers") == "layers"
    return Hearing(getattr(adapter, "downsampling", 1), inputs, reads_layers and _trains(nuance))


def _input_width(layer: nn.Module) -> int:
    if isinstance(layer, nn.Linear):
        return layer.in_features
    return layer.in_channels if isinstance(layer, nn.Conv1d) else 0


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _weights(model: EmpatheticLM) -> Weights:
    trained = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("nothing of this model trains")
    stays = [p for p in model.parameters() if not p.requires_grad] + list(model.buffers())
    frozen = sum(tensor.numel() * tensor.element_size() for tensor in stays)
    assert model.responder is not None
    return Weights(frozen - _saved_by_quantization(model.responder.language_model), sum(trained), max(trained))


def _saved_by_quantization(language_model: Any) -> int:
    """Bytes that the linear layers of the blocks take less than in their precision."""
    name = (language_model.source or {}).get("quantization")
    if name is None:
        return 0
    weights = [m.weight for m in language_model.decoder.modules() if isinstance(m, nn.Linear)]
    return sum(int(weight.numel() * (weight.element_size() - _BITS[name] / 8)) for weight in weights)
