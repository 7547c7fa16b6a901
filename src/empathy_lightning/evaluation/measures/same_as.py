"""Whether replies are those of another system, word for word: what was to stay as it is has stayed so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured, means_of
from empathy_lightning.utterance import Utterance


class SameAs:
    """Share of replies that are, to the character and to where they were cut, another system's to the same question.

    Of the likeliest words of a frozen language model, asked in words, this is 1 (``--words`` beside ``prepare
    responses``).

    Args:
        others: Manifest of the other system's replies.

    Raises:
        InputError: If it cannot be read, or holds no reply.
    """

    name = "same_as"
    needs: tuple[str, ...] = ()

    def __init__(self, others: str | Path) -> None:
        self.others: dict[tuple[str, str], Utterance] = {}
        for other in read_manifest(others):
            if other.response is not None:
                self.others[other.corpus, other.id] = other
        if not self.others:
            raise InputError(f"{others} has no responses: give the replies of another system")

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``same`` (0 or 1); replies without a partner have none, and are counted."""
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            other = self.others.get((reply.corpus, reply.id))
            if other is None or reply.response is None:
                rows.append(None)
                continue
            same = (reply.response, reply.response_cut) == (other.response, other.response_cut)
            rows.append({"same": int(same)})
        return Measured(rows, {"without_partner": rows.count(None), **means_of(rows)})
