"""How much the replies share with what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.metrics.text import chrf
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance


class Overlap:
    """BLEU, chrF and ROUGE against the first reference, over all replies; chrF of each reply.

    See :func:`overlap`. The mean of the replies' own chrF is not that of the whole set.
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
        found = overlap([reply.response or "" for reply in replies], [reply.references[0] for reply in replies])
        return {name: round(value, 6) for name, value in found.items()}


def overlap(replies: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """BLEU (sacreBLEU's 13a words), chrF and the F-measures of ROUGE over one reference each, all in 0..1.

    torchmetrics' own chrF (1.9) leaves out the references of replies that share nothing with them (its issue 3480).
    """
    from torchmetrics.functional.text import rouge_score, sacre_bleu_score

    lists = [[reference] for reference in references]
    keys = ("rouge1", "rouge2", "rougeL")
    # By default torchmetrics knows no letters but a to z.
    rouge = rouge_score(list(replies), list(references), rouge_keys=keys, normalizer=str, tokenizer=words)
    return {
        "bleu": float(sacre_bleu_score(replies, lists)),
        "chrf": chrf(replies, references),
        **{name: float(rouge[f"{name}_fmeasure"]) for name in keys},
    }
