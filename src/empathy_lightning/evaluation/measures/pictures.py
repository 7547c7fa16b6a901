"""Spoken replies drawn beside their targets: mel spectrograms with the pitch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.speech_pictures import draw_speech
from empathy_lightning.evaluation.styles import style_of, targets_of
from empathy_lightning.jobs import digest
from empathy_lightning.utterance import Utterance

_SHORTEST = 1_600
"""Samples that a picture needs at least."""


class Pictures:
    """Draws the first replies of each style in turn, one PNG each, for the page.

    Args:
        out: Folder of the run, whose ``pictures`` they go to.
        targets: Manifest of the same replies as they should sound; None draws the replies alone.
        count: How many are drawn.

    Raises:
        InputError: If the manifest names no speech, or none is to be drawn.
    """

    name = "pictures"
    needs = ("response_path",)

    def __init__(self, out: str, targets: str | None = None, count: int = 5) -> None:
        if count < 1:
            raise InputError("pictures.count has to be at least 1")
        self.out, self.targets, self.count = Path(out), targets, count
        self._known = {} if targets is None else targets_of(Path(targets))

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``picture``, named from the folder of the run; None of those that are not drawn."""
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        styles = [self._style(reply) for reply in replies]
        for index in _by_turns(styles):
            if sum(row is not None for row in rows) == self.count:
                break
            rows[index] = self._drawn(replies[index], styles[index])
        return Measured(rows, {"drawn": sum(row is not None for row in rows)})

    def _style(self, reply: Utterance) -> str:
        return style_of(self._known.get((reply.corpus, reply.id), reply)) or "unknown"

    def _drawn(self, reply: Utterance, style: str) -> dict[str, Any] | None:
        """Draw a reply; None where it, or its target, cannot be read or is too short."""
        target = self._known.get((reply.corpus, reply.id))
        try:
            shown = [read(one.response_path or "") for one in (target, reply) if one is not None]
        except AudioError:
            return None
        if min(map(len, shown)) < _SHORTEST:
            return None
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{reply.suite or ''}_{style}_{reply.corpus}_{reply.id}")[:80].strip("_")
        place = Path("pictures", f"{name}.png")
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        draw_speech(self.out / place, shown[0] if target is not None else None, shown[-1], f"{style}: {reply.response}")
        return {"picture": str(place)}

    def made_from(self) -> dict[str, str]:
        """Content of the targets."""
        return {} if self.targets is None else {"targets": digest(self.targets)}


def _by_turns(styles: Sequence[str]) -> Iterator[int]:
    """Places of the replies, of each style in turn."""
    groups: dict[str, list[int]] = {}
    for index, style in enumerate(styles):
        groups.setdefault(style, []).append(index)
    for turn in range(max(map(len, groups.values()), default=0)):
        yield from (group[turn] for group in groups.values() if turn < len(group))
