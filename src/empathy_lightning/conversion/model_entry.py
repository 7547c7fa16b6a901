"""The entry of a whole model in its folder's config.json, from those of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.parts import entry
from empathy_lightning.responder import Responder
from empathy_lightning.talker import Talker

_HALVES = {"listener": Listener, "responder": Responder, "talker": Talker}
_OWNERS = {
    "speech_encoder": "listener",
    "speech_adapter": "listener",
    "emotion_nuance": "listener",
    "emotion_encoder": "listener",
    "language_model": "responder",
    "partial_lora": "responder",
    "speech_decoder": "talker",
}


def path_of(part: str) -> str:
    """Path of a part in the model, such as ``listener.speech_adapter``."""
    return f"{_OWNERS[part]}.{part}"


def model_entry(
    parts: Mapping[str, dict[str, Any]],
    prompt: str,
    system: str,
    emotions: Sequence[str],
    untrained_heads: Sequence[str] = (),
) -> dict[str, Any]:
    """Entry of a model.

    Args:
        parts: Entries with ``class_path`` and ``init_args`` by the parts' names.
        prompt: User's turn with its slots.
        system: System message.
        emotions: Names of the classifier's categories, in its order.
        untrained_heads: Heads of the emotion nuance module that the release did not train.
    """
    arguments: dict[str, dict[str, Any]] = {}
    for name, found in parts.items():
        arguments.setdefault(_OWNERS[name], {})[name] = found
    arguments["listener"]["untrained_heads"] = list(untrained_heads)
    arguments["responder"] |= {"prompt": prompt, "system": system}
    halves = {half: entry(_HALVES[half], given) for half, given in arguments.items()}
    return entry(EmpatheticLM, {**halves, "emotions": list(emotions)})
