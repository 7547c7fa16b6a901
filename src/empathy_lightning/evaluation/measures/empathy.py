"""How empathetic the replies are, by EPITOME's classifiers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.conversion.epitome import MECHANISMS
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

LEVELS = ("none", "weak", "strong")
"""What the levels 0, 1 and 2 of a mechanism mean."""

BATCH = 64
"""Replies at a time."""


class Empathy:
    """Level 0 to 2 of each mechanism of EPITOME (Sharma et al. 2020), of the pair of transcript and reply.

    It reads 64 tokens: a question at the end of a longer reply is not seen, see the share ``truncated``. A reply
    without a word shows nothing and has level 0. No weights are published; levels of differently trained classifiers
    do not compare.

    Args:
        folder: That ``convert epitome`` wrote, that of trainings by ``recipe:epitome``, or of one mechanism.

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
        rows: list[dict[str, Any]] = [{**dict.fromkeys(self.classifiers, 0), "truncated": False} for _ in replies]
        spoken = [index for index, reply in enumerate(replies) if (reply.response or "").strip()]
        for name, classifier in self.classifiers.items():
            for start in progress_bar(range(0, len(spoken), BATCH), what=name.replace("_", " ")):
                few = spoken[start : start + BATCH]
                said = [replies[index].transcript or "" for index in few]
                estimate = classifier.estimate(said, [replies[index].response or "" for index in few])
                assert estimate.truncated is not None
                levels, cut = estimate.logits.argmax(1).tolist(), estimate.truncated.tolist()
                for index, level, truncated in zip(few, levels, cut, strict=True):
                    rows[index][name] = level
                    rows[index]["truncated"] |= truncated
        found: list[dict[str, Any] | None] = list(rows)
        return Measured(found, self.figures(replies, found))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Shares of the levels."""
        shares: dict[str, float] = {}
        for name in self.classifiers:
            levels = [row[name] for row in rows if row is not None]
            if not levels:
                continue
            for level, word in enumerate(LEVELS):
                shares[f"{name}_{word}"] = round(levels.count(level) / len(levels), 6)
        return shares

    def made_from(self) -> dict[str, str]:
        """The classifiers' content."""
        return {"classifiers": model_identity(self.folder)}


def load_classifiers(folder: Path) -> dict[str, EmpathyClassifier]:
    """EPITOME's classifiers by mechanism, from what ``convert epitome`` or trainings wrote, or one mechanism's folder.

    Raises:
        InputError: If there is none.
    """
    folders = [folder] if (folder / "config.json").is_file() else [folder / name for name in MECHANISMS]
    present = [path for path in folders if path.is_dir()]
    if not present:
        raise InputError(f"{folder} holds no empathy classifier; train one (recipe:epitome) or convert one")
    device = own_device()
    loaded = {}
    for path in present:
        classifier = load_empathy_classifier(path).to(device)
        loaded[json.loads((path / "config.json").read_text(encoding="utf-8"))["mechanism"]] = classifier
    return loaded
