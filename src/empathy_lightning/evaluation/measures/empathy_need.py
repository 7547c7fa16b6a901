"""Whether replies are kind where kindness is asked for, and only there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

from empathy_lightning.evaluation.criterion_files import load_criterion
from empathy_lightning.evaluation.judges.judge import Judge
from empathy_lightning.evaluation.judges.kept_answers import KeptAnswers
from empathy_lightning.evaluation.judges.opinions import folder_of_answers, opinions
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.statistics import mean
from empathy_lightning.utterance import Utterance

STANCES = ("seeking", "providing", "none")
"""What a turn does with empathy (whEE, arXiv 2509.25200)."""


class EmpathyNeed:
    """Asks a judge whether the user's turn seeks empathy and whether the reply provides it.

    A reply fits where it provides empathy to a turn that seeks it, or provides none to any other; kindness where none
    is asked for is an error, as its lack is where it is (whEE).

    Args:
        judge: Who is asked of both.
        need: Name of the raw label that states what a turn does, ``seeking``, ``providing`` or ``none``, where a suite
            has one; None asks the judge.
        cache: Folder of the answers so far; None takes the user's own cache.
        allow_unanswered: Share of the questions that may find no answer.
    """

    name = "empathy_need"
    incidental = ("judge", "cache")
    needs: tuple[str, ...] = ("transcript", "response")
    lower_is_better = ("missed", "unasked")

    def __init__(
        self, judge: Judge, need: str | None = None, cache: str | None = None, allow_unanswered: float = 0.0
    ) -> None:
        self.judge = judge
        self.need = need
        self.allow_unanswered = allow_unanswered
        self.cache = folder_of_answers(cache)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Measure; see :class:`.measured.Measure`.

        Raises:
            InputError: If the judge is down; what it answered is kept.
        """
        kept = KeptAnswers(self.cache)
        needs, need_facts = self._needs_of(replies, kept)
        given, given_facts = self._told("empathy_given", replies, kept)
        rows = [_row(*pair) for pair in zip(needs, given, strict=True)]
        asked = {"need": need_facts.pop("asked"), "given": given_facts.pop("asked")}
        shares = {"need_questions": need_facts, "given_questions": given_facts}
        return Measured(rows, {**_figures(rows), **shares, "asked": asked})

    def _needs_of(
        self, replies: Sequence[Utterance], kept: KeptAnswers
    ) -> tuple[list[dict[str, Any] | None], dict[str, Any]]:
        if self.need is None:
            return self._told("empathy_need", replies, kept)
        found: list[dict[str, Any] | None] = []
        for reply in replies:
            label = reply.raw_labels.get(self.need, "").strip().lower()
            found.append({"score": label} if label in STANCES else None)
        return found, {"lacking": found.count(None), "asked": {"label": self.need}}

    def _told(
        self, criterion: str, replies: Sequence[Utterance], kept: KeptAnswers
    ) -> tuple[list[dict[str, Any] | None], dict[str, Any]]:
        found = opinions(self.judge, load_criterion(criterion), replies, kept, self.allow_unanswered)
        return found.rows(), {**found.shares(), "asked": found.facts}

    def made_from(self) -> dict[str, Any]:
        """What decides the figures: judge, settings and words."""
        asked = [load_criterion(name) for name in ("empathy_need", "empathy_given")]
        return {one.name: {"judge": self.judge.identity(one.sampling), **one.facts()} for one in asked}


def _row(need: dict[str, Any] | None, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """What both are, and whether they fit; None where one of them was not asked about."""
    if need is None or given is None:
        return None
    answers = [*need.get("answers", []), *given.get("answers", [])]
    told = {"need": need["score"], "given": given["score"], "answers": answers}
    if None in told.values():
        return {"fits": None, **told}
    sought, provided = told["need"] == "seeking", told["given"] == "providing"
    error = float(sought != provided)
    # Kindness can be missed only where it is sought, and unasked only elsewhere.
    kind = "missed" if sought else "unasked"
    return {"fits": 1 - error, kind: error, **told}


def _figures(rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Share that fits, both kinds of error as shares of where they can occur, and counts of need and reply."""
    told = [row for row in rows if row is not None and row["fits"] is not None]
    counts = Counter((row["need"], row["given"]) for row in told)
    of_pairs = {f"{need}, {given}": counts[need, given] for need, given in product(STANCES, STANCES)}
    figures: dict[str, Any] = {}
    for name in ("fits", "missed", "unasked"):
        values = [row[name] for row in told if name in row]
        figures[name] = mean(values) if values else {"replies": 0}
    return {**figures, "counts": of_pairs}
