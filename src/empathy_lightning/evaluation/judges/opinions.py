"""What a judge says of each of many replies by one criterion, from what it said before and from asking it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from empathy_lightning.errors import AudioError, InputError
from empathy_lightning.evaluation.criterion import Criterion
from empathy_lightning.evaluation.judges.asking import Asked, ask_all
from empathy_lightning.evaluation.judges.judge import Judge, Question
from empathy_lightning.evaluation.judges.kept_answers import Kept, KeptAnswers, key_of
from empathy_lightning.evaluation.score_readers import Score, Unread
from empathy_lightning.progress import say
from empathy_lightning.utterance import Utterance

ENDS = ("read", "unparsed", "refused", "unanswered")
"""What may become of a question."""


@dataclass
class Opinion:
    """What a judge says of one reply.

    Attributes:
        scores: By name; None where there is none.
        answers: Its words as they came, each time that it was asked.
        ends: What became of each question, of :data:`ENDS`.
        faults: Why answers could not be read, or were not given.
    """

    scores: dict[str, Score | None]
    answers: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Scores, answers and faults as JSON values."""
        row: dict[str, Any] = {**self.scores, "answers": self.answers}
        if self.faults:
            row["faults"] = self.faults
        return row


@dataclass
class Opinions:
    """What a judge says of all replies.

    Attributes:
        each: Of each utterance; None where it lacks what is asked about, or its recording cannot be read.
        facts: Judge, criterion, settings and dates: what stands beside the figures.
        lacking: Utterances without what is asked about.
        unreadable: Why recordings cannot be read.
    """

    each: list[Opinion | None]
    facts: dict[str, Any]
    lacking: int
    unreadable: list[str]

    def rows(self) -> list[dict[str, Any] | None]:
        """What a measure says of each utterance."""
        return [None if opinion is None else opinion.row() for opinion in self.each]

    def scores(self, name: str) -> list[float]:
        """The numbers of one score, where there is one."""
        found = [opinion.scores[name] for opinion in self.each if opinion is not None]
        return [float(score) for score in found if isinstance(score, int | float)]

    def shares(self) -> dict[str, Any]:
        """How many questions there were, what became of them, and which utterances are left out."""
        ends: Counter[str] = Counter()
        for opinion in self.each:
            if opinion is not None:
                ends.update(opinion.ends)
        total = ends.total()
        shares = {end: round(ends[end] / max(1, total), 6) for end in ENDS[1:]}
        return {"questions": total, **shares, "lacking": self.lacking, "unreadable": len(self.unreadable)}


def folder_of_answers(cache: str | None) -> Path:
    """Where answers are kept: in the folder that is given, else in :func:`default_folder`."""
    return default_folder() if cache is None else Path(cache)


def default_folder() -> Path:
    """Where answers are kept unless a folder is given: ``empathy_lightning/judges`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "empathy_lightning" / "judges"


def check_hearing(judge: Judge, criterion: Criterion) -> None:
    """Refuse a criterion with speech for a judge that reads.

    Raises:
        InputError: If so.
    """
    if (criterion.wording.hears_user or criterion.wording.hears_reply) and not judge.hears:
        raise InputError(
            f"criterion {criterion.name} lets the judge hear, and {judge.model} only reads: give another judge, or "
            "what is to be read (user transcript, reply text)"
        )


def opinions(
    judge: Judge,
    criterion: Criterion,
    utterances: Sequence[Utterance],
    kept: KeptAnswers,
    allow_unanswered: float = 0.0,
) -> Opinions:
    """Ask a judge about replies; what it was asked before is not asked again.

    Args:
        judge: Who.
        criterion: What.
        utterances: Whose ``response`` and ``response_path`` are the replies.
        kept: Its answers so far; what it says is added.
        allow_unanswered: Share of the questions that may find no answer.

    Raises:
        InputError: If it is down, refuses the calls themselves, or leaves more without an answer; what it answered is
            kept.
    """
    check_hearing(judge, criterion)
    found = _Round(judge, criterion, kept).over(utterances)
    missing = found.shares()["unanswered"]
    if missing > allow_unanswered:
        asked = [opinion for opinion in found.each if opinion is not None]
        fault = next(opinion.faults[-1] for opinion in asked if "unanswered" in opinion.ends)
        raise InputError(
            f"{criterion.name}: {missing:.1%} of the questions found no answer ({fault}): run again, which asks "
            "those alone, or allow it with allow_unanswered"
        )
    return found


class _Round:
    """One judge, one criterion."""

    def __init__(self, judge: Judge, criterion: Criterion, kept: KeptAnswers) -> None:
        self._judge = judge
        self._criterion = criterion
        self._kept = kept
        self._identity = judge.identity(criterion.sampling)
        self._unanswered: dict[str, str] = {}

    def over(self, utterances: Sequence[Utterance]) -> Opinions:
        """Ask about all utterances, again where an answer cannot be read."""
        lacking = {i for i, u in enumerate(utterances) if self._criterion.wording.lacks(u)}
        keys, unreadable = self._keys(utterances, lacking)
        for attempt in range(self._criterion.attempts):
            self._ask(utterances, keys, attempt)
        each: list[Opinion | None] = [None] * len(utterances)
        for index, samples in keys.items():
            each[index] = self._opinion(samples)
        self._tell(len(utterances), len(lacking), unreadable)
        return Opinions(each, self._facts(keys), len(lacking), unreadable)

    def _keys(self, utterances: Sequence[Utterance], lacking: set[int]) -> tuple[dict[int, list[list[str]]], list[str]]:
        """Keys of the answers about each utterance, by sample and attempt; and recordings that cannot be read."""
        keys: dict[int, list[list[str]]] = {}
        unreadable = []
        for index, utterance in enumerate(utterances):
            if index in lacking:
                continue
            try:
                asked = self._question(utterance, 0)
            except AudioError as error:
                unreadable.append(str(error))
                continue
            keys[index] = [self._keys_of(asked, sample) for sample in range(self._criterion.samples)]
        return keys, unreadable

    def _keys_of(self, asked: Question, sample: int) -> list[str]:
        return [key_of(self._identity, replace(asked, number=number)) for number in self._numbers(sample)]

    def _numbers(self, sample: int) -> range:
        """Numbers of the questions of a sample: one for each attempt."""
        # First attempts have the first numbers, so that more attempts leave the keys of answers that are kept.
        return range(sample, self._criterion.samples * self._criterion.attempts, self._criterion.samples)

    def _question(self, utterance: Utterance, number: int) -> Question:
        wording = self._criterion.wording
        recordings = wording.recordings(utterance)
        return Question(wording.filled(utterance), wording.system, recordings, self._criterion.sampling, number)

    def _ask(self, utterances: Sequence[Utterance], keys: Mapping[int, list[list[str]]], attempt: int) -> None:
        asked: dict[str, Asked] = {}
        for index, samples in keys.items():
            for sample, attempts in enumerate(samples):
                key = attempts[attempt]
                if key not in self._kept and (attempt == 0 or self._is_unread(attempts[attempt - 1])):
                    number = self._numbers(sample)[attempt]
                    asked[key] = Asked(key, partial(self._question, utterances[index], number))
        self._unanswered |= ask_all(self._judge, asked.values(), self._kept.keep, f"asking {self._judge.model}")

    def _is_unread(self, key: str) -> bool:
        return key in self._kept and self._end(self._kept[key])[0] == "unparsed"

    def _end(self, kept: Kept) -> tuple[str, dict[str, Score], str]:
        """What became of a question that was answered: its end, scores, and what is wrong."""
        answer = kept.answer
        if answer.refused:
            return "refused", {}, "refused"
        if answer.cut:
            # What stands in a piece of an answer need not be its verdict.
            return "unparsed", {}, "cut at the longest length"
        try:
            return "read", self._criterion.reader.read(_after_thinking(answer.text)), ""
        except Unread as error:
            return "unparsed", {}, str(error)

    def _opinion(self, samples: list[list[str]]) -> Opinion:
        opinion = Opinion({})
        read = []
        for attempts in samples:
            answered = [key for key in attempts if key in self._kept]
            end, fault = "unanswered", self._unanswered.get(attempts[0], "not asked")
            for key in answered:
                kept = self._kept[key]
                opinion.answers.append(kept.answer.text)
                end, scores, fault = self._end(kept)
                if end == "read":
                    read.append(scores)
                    break
            missing = [self._unanswered[key] for key in attempts if key in self._unanswered]
            if end == "unparsed" and missing:
                # Another attempt was due, and may yet be read.
                end, fault = "unanswered", missing[0]
            opinion.ends.append(end)
            if fault:
                opinion.faults.append(fault)
        opinion.scores = self._criterion.reader.joined(read)
        return opinion

    def _facts(self, keys: Mapping[int, list[list[str]]]) -> dict[str, Any]:
        samples = chain.from_iterable(keys.values())
        used = [self._kept[key] for key in chain.from_iterable(samples) if key in self._kept]
        dates = [kept.date for kept in used]
        served = {kept.answer.served for kept in used} - {None}
        return {
            "judge": self._judge.model,
            "settings": self._identity,
            "served": sorted(str(name) for name in served),
            # ISO 8601 in UTC, whose letters are in the order of time.
            "asked": {"first": min(dates), "last": max(dates)} if dates else None,
            **self._criterion.facts(),
        }

    def _tell(self, total: int, lacking: int, unreadable: list[str]) -> None:
        needs = ", ".join(self._criterion.wording.needs())
        if lacking:
            say(f"{self._criterion.name}: {lacking} of {total} replies lack what is asked about ({needs})")
        if unreadable:
            say(f"{self._criterion.name}: {len(unreadable)} recordings cannot be read: {unreadable[0]}")


def _after_thinking(text: str) -> str:
    """An answer without what some servers leave of a model's thinking before it."""
    return text.rpartition("</think>")[2]
