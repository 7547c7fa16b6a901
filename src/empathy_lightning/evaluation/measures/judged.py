"""Replies as a judge scores them by a criterion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from empathy_lightning.evaluation.criterion_files import load_criterion
from empathy_lightning.evaluation.judges.judge import Judge
from empathy_lightning.evaluation.judges.kept_answers import KeptAnswers
from empathy_lightning.evaluation.judges.opinions import Opinions, check_hearing, folder_of_answers, opinions
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.statistics import mean
from empathy_lightning.utterance import Utterance


class Judged:
    """Asks a judge about each reply; nothing that it did not say is guessed.

    A row holds the scores, None where no answer could be read, the judge's words, and why answers could not be read.
    The figures hold the mean of each score with its interval (of words their shares), the shares of the questions that
    were unparsed, refused and unanswered, and under ``asked`` judge, settings, criterion, prompt hash and dates.

    Args:
        judge: Who is asked, such as :class:`.judges.OpenAIJudge`.
        criterion: Name of one that comes with the package, or a YAML file.
        cache: Folder of the answers so far; None takes the user's own cache.
        user: What the judge is given of the user in the place of the criterion's own choice: ``transcript``,
            ``speech``, ``both`` or ``nothing``.
        reply: What it is given of the reply: ``text``, ``speech`` or ``both``.
        allow_unanswered: Share of the questions that may find no answer; above it the measure is refused.
        name: In tables and files; None takes ``judged_`` and the criterion's.

    Raises:
        InputError: If the criterion cannot be used, or the judge does not hear what it asks about.
    """

    incidental = ("judge", "cache")

    def __init__(
        self,
        judge: Judge,
        criterion: str,
        cache: str | None = None,
        user: str | None = None,
        reply: str | None = None,
        allow_unanswered: float = 0.0,
        name: str | None = None,
    ) -> None:
        self.judge = judge
        self.criterion = load_criterion(criterion).given(user, reply)
        check_hearing(judge, self.criterion)
        self.cache = folder_of_answers(cache)
        self.allow_unanswered = allow_unanswered
        self.name = name or f"judged_{self.criterion.name}"
        self.needs = self.criterion.wording.needs()

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Measure; see :class:`.measured.Measure`.

        Raises:
            InputError: If the judge is down; what it answered is kept.
        """
        kept = KeptAnswers(self.cache)
        found = opinions(self.judge, self.criterion, replies, kept, self.allow_unanswered)
        figures: dict[str, Any] = {name: _figure(found, name) for name in self.criterion.reader.names}
        return Measured(found.rows(), {**figures, **found.shares(), "asked": found.facts})

    def made_from(self) -> dict[str, Any]:
        """What decides the figures: judge, settings and words."""
        return {"judge": self.judge.identity(self.criterion.sampling), **self.criterion.facts()}


def _figure(found: Opinions, name: str) -> dict[str, Any]:
    """Mean and interval of a score; shares of its words where it is one."""
    given = [opinion.scores[name] for opinion in found.each if opinion is not None]
    words = Counter(score for score in given if isinstance(score, str))
    if words:
        return {word: round(count / words.total(), 6) for word, count in sorted(words.items())}
    numbers = found.scores(name)
    return dict(mean(numbers)) if numbers else {"replies": 0}
