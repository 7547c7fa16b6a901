"""Replies as they should sound: the recordings that a manifest names, and its training replies of known styles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.speech_measures import style_of
from empathy_lightning.utterance import Utterance

PER_STYLE = 100
"""Training replies of a style that tell what it sounds like, the first ones."""


def targets_of(manifest: Path) -> dict[tuple[str, str], Utterance]:
    """Utterances with spoken replies by corpus and id.

    Raises:
        InputError: If there is none.
    """
    found = {(u.corpus, u.id): u for u in read_chosen(manifest, "all", audio=False) if u.response_path}
    if not found:
        raise InputError(f"{manifest} names no speech (response_path): make it with `prepare speech`")
    return found


def training_replies(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The first spoken training replies of each style, at most :data:`PER_STYLE`."""
    taken: Counter[str] = Counter()
    found = []
    for reply in utterances:
        style = style_of(reply)
        if reply.split == "train" and reply.response_path and style is not None and taken[style] < PER_STYLE:
            taken[style] += 1
            found.append(reply)
    return found
