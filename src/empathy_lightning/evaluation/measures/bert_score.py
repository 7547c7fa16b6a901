"""How like the replies are to the suite's references in an encoder's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.reply_scores import bert_scorer
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance


class BertScore:
    """F-measure of BERTScore against the first reference; see :func:`.reply_scores.bert_scorer`.

    Args:
        folder: Of an encoder with its tokenizer, for example a roberta-large.
        layer: Hidden states that are compared; None takes the last.

    Raises:
        InputError: If there is no encoder that can be loaded.
    """

    name = "bert_score"
    needs = ("references",)

    def __init__(self, folder: str, layer: int | None = None) -> None:
        self.folder = folder
        self._score = bert_scorer(Path(folder), layer)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``bert_score``."""
        scores = self._score([reply.response or "" for reply in replies], [reply.references[0] for reply in replies])
        rows: list[dict[str, Any] | None] = [{"bert_score": round(score, 6)} for score in scores]
        return Measured(rows, {})

    def made_from(self) -> dict[str, str]:
        """The encoder's content."""
        return {"encoder": model_identity(self.folder)}
