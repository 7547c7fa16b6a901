"""Whether a reply that is read alone carries the emotion that it should (emotion consensus, EC)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from empathy_lightning.emotion_words import chosen_emotion
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.criterion_files import load_criterion
from empathy_lightning.evaluation.emotion_rows import expected_field, expected_label
from empathy_lightning.evaluation.judges.judge import Judge
from empathy_lightning.evaluation.judges.kept_answers import KeptAnswers
from empathy_lightning.evaluation.judges.opinions import folder_of_answers, opinions
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.statistics import mean
from empathy_lightning.utterance import Utterance

EMOTIONS = ("happy", "angry", "sad", "neutral")
"""The four of CE-CoT."""


class EmotionConsensus:
    """Compares the main emotion of each reply, named by a judge or by a text classifier, with the expected one.

    CE-CoT (Interspeech 2026, 1271) asks Gemini Flash 2.0 and compares with the emotion of the user's voice. A reply in
    which the judge names none has no consensus and counts as unparsed, not as wrong.

    Args:
        judge: Who names the emotion.
        classifier: Folder or model id of a text classifier in its place, see :class:`.text_emotions.TextEmotions`.
        emotions: Those that may be named; replies of which another one is expected are left out.
        expected: Where the expected emotion stands: ``emotion``, the user's own, or the name of a raw label, such as
            ``reply_emotion`` of SD-Eval.
        cache: Folder of a judge's answers so far; None takes the user's own cache.
        allow_unanswered: Share of a judge's questions that may find no answer.

    Raises:
        InputError: If there is neither judge nor classifier, or both, or the classifier cannot be used.
    """

    name = "emotion_consensus"
    incidental = ("judge", "cache")

    def __init__(
        self,
        judge: Judge | None = None,
        classifier: str | None = None,
        emotions: Sequence[str] = EMOTIONS,
        expected: str = "emotion",
        cache: str | None = None,
        allow_unanswered: float = 0.0,
    ) -> None:
        if (judge is None) == (classifier is None):
            raise InputError("emotion_consensus: give a judge or a classifier of texts, one of them")
        self.judge = judge
        self.classifier = classifier
        self.emotions = tuple(emotions)
        self.expected = expected
        self.allow_unanswered = allow_unanswered
        self._criterion = load_criterion("emotion_consensus").choosing(self.emotions)
        self.cache = folder_of_answers(cache)
        self.needs: tuple[str, ...] = ("response", expected_field(expected))
        self._classify = self._loaded()

    def _loaded(self) -> Any:
        if self.classifier is None:
            return None
        from empathy_lightning.evaluation.text_emotions import TextEmotions

        return TextEmotions(self.classifier, self.emotions)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Measure; see :class:`.measured.Measure`.

        Raises:
            InputError: If the judge is down; what it answered is kept.
        """
        wanted = [self._wanted(u) for u in replies]
        asked = [i for i, emotion in enumerate(wanted) if emotion is not None]
        named, facts = self._named([replies[i] for i in asked])
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        for index, row in zip(asked, named, strict=True):
            if row is None:
                continue
            found = row["named"]
            consensus = None if found is None else float(found == wanted[index])
            rows[index] = {"consensus": consensus, **row}
        return Measured(rows, {**self._figures(rows, wanted), **facts})

    def _wanted(self, utterance: Utterance) -> str | None:
        """The expected emotion, where it is one of those that may be named and there is a reply."""
        label = expected_label(utterance, self.expected)
        if not label or not (utterance.response or "").strip():
            return None
        return chosen_emotion(label, self.emotions)

    def _named(self, replies: list[Utterance]) -> tuple[list[dict[str, Any] | None], dict[str, Any]]:
        """The emotion of each reply with the judge's words, and what stands beside the figures."""
        if self.judge is None:
            named = self._classify([u.response or "" for u in replies])
            return [{"named": emotion} for emotion in named], {"asked": {"classifier": self.classifier}}
        found = opinions(self.judge, self._criterion, replies, KeptAnswers(self.cache), self.allow_unanswered)
        rows: list[dict[str, Any] | None] = []
        for row in found.rows():
            if row is not None:
                row = {"named": row.pop("score"), **row}
            rows.append(row)
        return rows, {**found.shares(), "asked": found.facts}

    def made_from(self) -> dict[str, Any]:
        """What decides the figures beside the arguments: content of the classifier, or judge, settings and words."""
        if self.judge is not None:
            return {"judge": self.judge.identity(self._criterion.sampling), **self._criterion.facts()}
        from empathy_lightning.preparation.identity import model_identity

        return {"classifier": model_identity(str(self.classifier))}

    def _figures(self, rows: Sequence[dict[str, Any] | None], wanted: Sequence[str | None]) -> dict[str, Any]:
        """Share of consensus, over all and for each expected emotion; replies that were left out."""
        by_emotion: dict[str, list[float]] = defaultdict(list)
        for row, emotion in zip(rows, wanted, strict=True):
            if row is not None and emotion is not None and row["consensus"] is not None:
                by_emotion[emotion].append(row["consensus"])
        together = list(chain.from_iterable(by_emotion.values()))
        return {
            "consensus": mean(together) if together else {"replies": 0},
            "by_emotion": {name: round(fmean(values), 6) for name, values in sorted(by_emotion.items())},
            "left_out": wanted.count(None),
        }
