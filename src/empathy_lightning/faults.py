"""What is wrong in a file of records, told in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LONGEST = 300


@dataclass
class Faults:
    """What is wrong in a file: the first fault and how many there are.

    Attributes:
        count: How many values are wrong.
        row: Place of the first one, as the reader counts.
        text: What is wrong there, with the field's name.
    """

    count: int = 0
    row: int = -1
    text: str = ""

    def add(self, row: int, text: str) -> None:
        """Count a fault, and keep it if it is the first one of the file."""
        if self.count == 0 or row < self.row:
            self.row, self.text = row, text
        self.count += 1

    def join(self, others: Faults, rows: Sequence[int] | None = None) -> None:
        """Count the faults of another reading, whose rows may be places in a list of ours."""
        if others.count:
            self.add(others.row if rows is None else rows[others.row], others.text)
            self.count += others.count - 1

    def describe(self, where: str) -> str:
        """One line of at most 300 characters.

        Args:
            where: File and line or row of the first fault.
        """
        more = f" (and {self.count - 1:,} more)" if self.count > 1 else ""
        text = cut(self.text, 150)
        room = _LONGEST - len(text) - len(more) - 2
        # Of a long path the end tells more than the beginning.
        place = where if len(where) <= room else f"...{where[3 - room :]}"
        return f"{place}: {text}{more}"


def first_of(texts: Sequence[str], most: int = 3) -> list[str]:
    """The first texts, and a line that says how many more there are.

    >>> first_of(["a", "b", "c", "d", "e"])
    ['a', 'b', 'c', '... and 2 more']
    """
    left = len(texts) - most
    return [*texts[:most], f"... and {left:,} more"] if left > 0 else list(texts)


def cut(text: str, most: int) -> str:
    """The text, or its beginning with dots where it is longer."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
