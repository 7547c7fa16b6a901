"""How much the replies share with the suite's references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.reply_scores import overlap, rounded
from empathy_lightning.metrics.text import chrf
from empathy_lightning.utterance import Utterance


class Overlap:
    """BLEU, chrF and ROUGE against the first reference, over all replies; chrF of each reply.

    See :func:`.reply_scores.overlap`. The mean of the replies' own chrF is not that of the whole set.
    """

    name = "overlap"
    needs = ("references",)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``chrf_of_reply``; figures over all replies."""
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            rows.append({"chrf_of_reply": round(chrf([reply.response or ""], reply.references[:1]), 6)})
        return Measured(rows, self.figures(replies, rows))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """In 0..1."""
        return rounded(overlap([reply.response or "" for reply in replies], [reply.references[0] for reply in replies]))
