"""From an override of a variant to a word of the trainer's command line."""

from __future__ import annotations

import json
from typing import Any

_MODEL = "model.model."


def word(key: str, value: Any, out: str) -> str:
    """An option with its value, such as ``--model.loss_weights.rating=0``.

    Args:
        key: By its dots.
        value: As YAML has it; a text, number, list, mapping or None.
        out: Takes the place of ``{out}`` in it.
    """
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.replace("{out}", out)
    plain = value is not None and (not isinstance(value, str) or _reads_as_itself(text))
    if plain or not key.startswith(_MODEL):
        return f"--{key}={text}"
    # What the parser would misread as a word, null for a part or a prompt with a colon, it takes from the model.
    nested: Any = None if value is None else text
    for step in reversed(key.removeprefix(_MODEL).split(".")):
        nested = {step: nested}
    return f"--{_MODEL.rstrip('.')}={json.dumps(nested)}"


def _reads_as_itself(text: str) -> bool:
    from omegaconf import OmegaConf

    try:
        # OmegaConf takes a text that stands alone for a key.
        return bool(OmegaConf.create(f"[{text}]") == [text])
    except Exception:  # of YAML or of OmegaConf, whose interpolations it may hold
        return False
