"""How a judge's answer becomes scores: strictly, or not at all."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from empathy_lightning.emotion_words import chosen_emotion

Score = float | str
"""A number, or one of the words that a criterion offers."""

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class Unread(ValueError):
    """An answer in which no score stands as it was asked for; the message says why."""


class ScoreReader(Protocol):
    """Reads the scores of an answer."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scores."""

    def read(self, text: str) -> dict[str, Score]:
        """The scores by name.

        Raises:
            Unread: If one is not there, or outside its scale.
        """

    def joined(self, read: Sequence[Mapping[str, Score]]) -> dict[str, Score | None]:
        """One score for each name from several answers to one question; None where there is none."""

    def described(self) -> str:
        """What it takes, in a few words."""


@dataclass(frozen=True)
class Scale:
    """Numbers that a judge may give.

    Attributes:
        low: Lowest.
        high: Highest.
        times: What a score is multiplied by after that, as where 1 to 5 is reported as 20 to 100.
        only: The allowed numbers where they are not all from lowest to highest, such as 1, 5 and 10.
    """

    low: float
    high: float
    times: float = 1.0
    only: tuple[float, ...] = ()

    def number(self, given: Any) -> float:
        """The score of a number.

        Raises:
            Unread: If it is outside the scale, or no number.
        """
        if isinstance(given, bool) or not isinstance(given, int | float):
            raise Unread(f"{given!r:.40} is no number")
        if not self.low <= given <= self.high or (self.only and given not in self.only):
            raise Unread(f"{given:g} is not on the scale ({self})")
        return given * self.times

    def __str__(self) -> str:
        if self.only:
            return ", ".join(f"{number:g}" for number in self.only)
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class InPattern:
    """A number at a place that a pattern tells; the last such place counts.

    Attributes:
        pattern: Regular expression whose first group is the number.
        scale: Of the number.
        name: Of the score.
    """

    pattern: str
    scale: Scale
    name: str = "score"

    @property
    def names(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    def read(self, text: str) -> dict[str, Score]:
        """See :class:`ScoreReader`."""
        found = re.findall(self.pattern, text)
        if not found:
            raise Unread("no score where it was asked for")
        try:
            number = float(found[-1])
        except ValueError:
            raise Unread(f"{found[-1]!r:.40} is no number") from None
        return {self.name: self.scale.number(number)}

    def joined(self, read: Sequence[Mapping[str, Score]]) -> dict[str, Score | None]:
        """The mean."""
        return _means(self.names, read)

    def described(self) -> str:
        """Pattern and scale."""
        return f"last {self.pattern}, {self.scale}"


@dataclass(frozen=True)
class InJson:
    """Numbers under keys of a JSON object, which is the whole answer; a fence around it is taken off.

    Attributes:
        keys: Of the numbers; other keys are not looked at.
        scale: Of each.
    """

    keys: tuple[str, ...]
    scale: Scale

    @property
    def names(self) -> tuple[str, ...]:
        """The keys."""
        return self.keys

    def read(self, text: str) -> dict[str, Score]:
        """See :class:`ScoreReader`."""
        fenced = _FENCED.fullmatch(text)
        inside = fenced[1] if fenced else text
        try:
            found = json.loads(inside)
        except (ValueError, RecursionError):  # the latter of a thousand brackets
            raise Unread("no JSON") from None
        if not isinstance(found, dict):
            raise Unread("no JSON object")
        missing = [key for key in self.keys if key not in found]
        if missing:
            raise Unread(f"no {missing[0]} in the JSON object")
        return {key: self.scale.number(found[key]) for key in self.keys}

    def joined(self, read: Sequence[Mapping[str, Score]]) -> dict[str, Score | None]:
        """The means."""
        return _means(self.keys, read)

    def described(self) -> str:
        """Keys and scale."""
        return f"JSON with {', '.join(self.keys)}, {self.scale}"


@dataclass(frozen=True)
class Choice:
    """One of several words, which is the whole answer but for its case, quotes and full stop.

    Attributes:
        words: What may be chosen; emotions in any spelling ("sadness" is sad).
        values: Numbers that the words stand for; empty where the word itself is the score.
        name: Of the score.
    """

    words: tuple[str, ...]
    values: Mapping[str, float]
    name: str = "score"

    @property
    def names(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    def read(self, text: str) -> dict[str, Score]:
        """See :class:`ScoreReader`."""
        said = text.strip().strip("\"'`*_.!()[]{} \n")
        chosen = chosen_emotion(said, self.words) if said else None
        if chosen is None:
            raise Unread(f"none of {', '.join(self.words)} alone")
        return {self.name: self.values.get(chosen, chosen)}

    def joined(self, read: Sequence[Mapping[str, Score]]) -> dict[str, Score | None]:
        """What most answers say; None where two are said equally often."""
        counts = Counter(scores[self.name] for scores in read).most_common(2)
        if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
            return {self.name: None}
        return {self.name: counts[0][0]}

    def described(self) -> str:
        """The words."""
        return f"one of {', '.join(self.words)}"


def _means(names: Sequence[str], read: Sequence[Mapping[str, Score]]) -> dict[str, Score | None]:
    means: dict[str, Score | None] = {}
    for name in names:
        numbers = [float(scores[name]) for scores in read]
        means[name] = sum(numbers) / len(numbers) if numbers else None
    return means
