"""What a measure of replies is: a function from replies to a row for each and figures over all.

Every measure of :mod:`.measures` is one, and so is a user's own, named by its class path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from empathy_lightning.utterance import Utterance


class Measured(NamedTuple):
    """What a measure found.

    Attributes:
        rows: What it says of each reply, JSON values by name, in the order of the replies; None where it cannot say
            anything. Numbers of rows are what two systems are compared by.
        figures: What it says of all: numbers, or numbers with their interval (see :mod:`.statistics`), by name.
    """

    rows: list[dict[str, Any] | None]
    figures: dict[str, Any]


def means_of(rows: Sequence[Mapping[str, Any] | None]) -> dict[str, float]:
    """How many replies have a row, and the mean of each number over the rows that hold it.

    >>> means_of([{"correct": 1, "chosen": "B"}, None, {"correct": 0, "chosen": None}])
    {'replies': 2, 'correct': 0.5}
    """
    numbers: dict[str, list[float]] = {}
    for row in rows:
        for name, value in (row or {}).items():
            if isinstance(value, int | float):
                numbers.setdefault(name, []).append(value)
    found: dict[str, float] = {"replies": len(rows) - list(rows).count(None)}
    for name, values in numbers.items():
        found[name] = round(sum(values) / len(values), 6)
    return found


def unreadable_in(rows: Sequence[Mapping[str, Any] | None]) -> dict[str, int]:
    """How many rows say, under ``unreadable``, why a recording cannot be read."""
    return {"unreadable": sum(row is not None and "unreadable" in row for row in rows)}


def readable_rows(rows: Sequence[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """The rows that say something else than that a recording is ``unreadable``."""
    return [row for row in rows if row is not None and "unreadable" not in row]


class Measure(Protocol):
    """Measures the replies of one system.

    A class whose instances are called; its constructor's arguments are its options. What can be refused (a folder
    that is not there, a package that is missing) is refused when it is built, before anything is answered.

    What else it may have, all of it optional:

    - ``ratios``, a dict of figures that are a sum over a sum, such as ``{"word_error_rate": ("word_errors", "words")}``
      of numbers in the rows; every other number of the rows is averaged.
    - ``figures(replies, rows)``, a method that gives the figures which are neither, again for some of the replies,
      such as those of one corpus.
    - ``lower_is_better``, names of such figures.
    - ``made_from()``, a method that gives what decides the figures beside the arguments, such as digests of weights.
    - ``incidental``, names of arguments that decide nothing beside what ``made_from`` tells, such as a cache.
    - ``part``, a number: each reply is measured by itself, so many at a time, and what was said of them is kept, so
      that a measuring that was stopped goes on. The figures beside the means come from ``figures`` alone then.
    - an argument ``checkpoint`` of its constructor, for what only the bot itself can tell, or ``out``, the folder of
      the run: the run fills them.

    Attributes:
        name: Short name in tables and files, such as ``exists_match``.
        needs: Fields of an utterance without which a reply has no row, such as ``("references",)``.
    """

    name: str
    needs: tuple[str, ...]

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Measure.

        Args:
            replies: Utterances whose ``response`` is the reply and whose ``response_path`` its speech, if spoken;
                ``suite``, ``ability`` and ``references`` are the question's own.
        """
