"""The entry of a whole model in its folder's config.json, from those of its parts; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OWNERS = {
    "speech_encoder": "listener",
    "speech_adapter": "listener",
    "emotion_nuance": "listener",
    "emotion_encoder": "listener",
    "language_model": "responder",
    "partial_lora": "responder",
    "speech_decoder": "talker",
    "vocoder": "talker",
}
"""Which half of the model each part belongs to."""

_CLASSES = {
    "listener": "empathy_lightning.listener.Listener",
    "responder": "empathy_lightning.responder.Responder",
    "talker": "empathy_lightning.talker.Talker",
}


def path_of(part: str) -> str:
    """Path of a part in the model, such as ``listener.speech_adapter``."""
    return f"{OWNERS[part]}.{part}"


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
    halves: dict[str, Any] = {}
    for name, found in parts.items():
        owner = OWNERS[name]
        half = halves.setdefault(owner, {"class_path": _CLASSES[owner], "init_args": {}})
        half["init_args"][name] = found
    halves["listener"]["init_args"]["untrained_heads"] = list(untrained_heads)
    halves["responder"]["init_args"] |= {"prompt": prompt, "system": system}
    whole = {**halves, "emotions": list(emotions)}
    return {"class_path": "empathy_lightning.models.EmpatheticLM", "init_args": whole}
