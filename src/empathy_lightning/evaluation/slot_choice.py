"""What is to fill a prompt's slots in the place of what a folder says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.parts import trusted_class
from empathy_lightning.slots import SlotFiller

SLOTS = ("speech_slot", "emotion_slot")
"""Names of the responder's slots."""


def filler_named(slot: str, path: str, trust: Sequence[str] = ()) -> SlotFiller:
    """What fills a slot.

    Args:
        slot: One of :data:`SLOTS`.
        path: Bare name of a class of :mod:`.slots`, or the path of another one.
        trust: Packages whose classes may be named.

    Raises:
        InputError: If there is no such slot or filler.
    """
    if slot not in SLOTS:
        raise InputError(f"no slot is named {slot!r}; there are {' and '.join(SLOTS)}")
    whole = path if "." in path else f"{SlotFiller.__module__}.{path}"
    kind: Any = trusted_class(whole, trust)
    if not issubclass(kind, SlotFiller):
        raise InputError(f"{path} fills no slot: name one such as Transcript or TrueLabel")
    filler: SlotFiller = kind()
    return filler
