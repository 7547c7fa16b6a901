"""Progress of long work: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
_FIRST_LINE_AFTER = 5.0
_LINE = "{desc}: {n_fmt} of {total_fmt} [{elapsed}, {remaining} left, {rate_fmt}]"


class _Lines(tqdm):  # type: ignore[misc]
    """Says where it stands in lines of their own, as a log wants it; what is done in a few seconds says nothing."""

    disable: bool

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line in the place of redrawing the bar."""
        print(str(self), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say the last figures, unless it was the work of a moment."""
        if not self.disable and self._time() - self.start_t >= self.delay:
            self.display()
        self.disable = True


def progress_bar(
    rows: Iterable[Any] | None = None,
    what: str = "",
    total: int | None = None,
    done: int = 0,
    line: int = 0,
    shown: bool = True,
) -> Any:
    """Count long work as it goes on, on standard error.

    Args:
        rows: What is gone through; None where the caller calls ``update``.
        what: Stands before the figures.
        total: Number of rows, where it does not follow from them.
        done: How many were done before.
        line: Which line of the terminal, where several processes write to one.
        shown: False counts in silence, where there is little to do.

    Returns:
        A tqdm bar, also a context: iterate over it, or call its ``update``.
    """
    if sys.stderr.isatty():
        return tqdm(rows, desc=what, total=total, initial=done, position=line, disable=not shown)
    return _Lines(
        rows,
        desc=what,
        total=total,
        initial=done,
        disable=not shown,
        mininterval=SECONDS_BETWEEN_LINES,
        delay=_FIRST_LINE_AFTER,
        bar_format=_LINE,
    )


def say(text: str) -> None:
    """Print to standard output, above the bars of a terminal."""
    if sys.stderr.isatty():
        # A plain print would end up in the middle of a bar.
        tqdm.write(text)
    else:
        print(text, flush=True)
