"""The names of splits, and the spellings that are read as them."""

from __future__ import annotations

from empathy_lightning.emotion_words import normalised

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("training", "tr"),
    "validation": ("validate", "valid", "val", "dev", "development", "devel"),
    "test": ("testing", "eval", "evaluation", "test1"),
    "test2": (),
    "test3": (),
}
"""Names of splits, each with the other spellings that are read as it, in any case."""

_SPLIT_OF = {spelling: name for name, others in SPLITS.items() for spelling in (name, *others)}


def split_named(word: str) -> str | None:
    """The split of which a word is a spelling; None if it is none."""
    return _SPLIT_OF.get(normalised(word))
