"""How long the replies are, and how different from each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.metrics.text import distinct
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance


class Variety:
    """Words of each reply; distinct-1 and distinct-2 over all, and the share of replies that no other repeats first."""

    name = "variety"
    needs: tuple[str, ...] = ()

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``words``; figures over all replies."""
        rows: list[dict[str, Any] | None] = [{"words": len(words(reply.response or ""))} for reply in replies]
        return Measured(rows, self.figures(replies, rows))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Distinct n-grams, which only sets of like size compare by, different replies, replies cut or wordless."""
        tokens = [words(reply.response or "") for reply in replies]
        shares = {
            "distinct_1": distinct(tokens, 1),
            "distinct_2": distinct(tokens, 2),
            "different": len({tuple(row) for row in tokens}) / len(tokens),
            "cut": sum(reply.response_cut for reply in replies) / len(replies),
            "wordless": sum(not row for row in tokens) / len(tokens),
        }
        return {name: round(value, 6) for name, value in shares.items()}
