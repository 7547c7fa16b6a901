"""How empathetic the replies are, by EPITOME's classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.reply_scores import LEVELS, empathy, load_classifiers, rounded
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance


class Empathy:
    """Level 0 to 2 of each mechanism of EPITOME (Sharma et al. 2020), of the pair of transcript and reply.

    It reads 64 tokens: a question at the end of a longer reply is not seen, see the share ``truncated``. No weights are
    published; levels of differently trained classifiers do not compare.

    Args:
        folder: That ``convert epitome`` or EPITOME's trainer wrote.

    Raises:
        InputError: If it holds no classifier.
    """

    name = "empathy"
    needs = ("transcript",)

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.classifiers = load_classifiers(Path(folder))

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the level of each mechanism, and whether the reply was ``truncated``."""
        rows: list[dict[str, Any]] = [{} for _ in replies]
        for name, classifier in self.classifiers.items():
            measured = empathy(classifier, replies, what=name.replace("_", " "))
            for row, level, cut in zip(rows, measured.levels, measured.truncated, strict=True):
                row[name], row["truncated"] = level, cut or row.get("truncated", False)
        found: list[dict[str, Any] | None] = list(rows)
        return Measured(found, self.figures(replies, found))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Shares of the levels."""
        shares: dict[str, float] = {}
        for name in self.classifiers:
            levels = [row[name] for row in rows if row is not None and row[name] is not None]
            for level, word in enumerate(LEVELS if levels else ()):
                shares[f"{name}_{word}"] = levels.count(level) / len(levels)
        return rounded(shares)

    def made_from(self) -> dict[str, str]:
        """The classifiers' content."""
        return {"classifiers": model_identity(self.folder)}
