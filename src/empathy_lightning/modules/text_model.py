"""The causal language model inside a model that also sees or hears."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM


def text_model(model: Any) -> Any:
    """What transformers calls a causal language model, without what else it takes in.

    Some checkpoints, such as Gemma 3 from 4B on, hold a causal language model beside an encoder of images, and
    transformers loads both. The text model is put together from the weights that are loaded already.

    Args:
        model: As ``AutoModelForCausalLM`` gave it.

    Returns:
        The model of the text alone, or the same where there is nothing else in it, or no class for it.
    """
    config = model.config.get_text_config()
    inside = getattr(model.base_model, "language_model", None)
    kind: Any = None if config is model.config else AutoModelForCausalLM._model_mapping.get(type(config), None)
    if inside is None or kind is None or kind is type(model):
        return model
    # Without weights of its own, which would take as much memory again.
    with torch.device("meta"):
        alone = kind(config)
    for name, empty in alone.named_children():
        part = inside if name == alone.base_model_prefix else getattr(model, name, None)
        if type(part) is not type(empty):
            return model
        setattr(alone, name, part)
    alone.generation_config = model.generation_config
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:
        alone.hf_quantizer = quantizer
    return alone.eval()
