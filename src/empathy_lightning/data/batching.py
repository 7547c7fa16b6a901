"""Batches of rows of like lengths, cut from an epoch's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
"""Lengths of utterances, shape (N,)."""

Slots = NDArray[np.int64]
"""Places in an epoch's order, shape (N,)."""


@dataclass(frozen=True)
class Batching:
    """How the utterances of an epoch are divided into batches, and these among processes."""

    batch_seconds: float
    batch_size: int | None
    pool_batches: int
    num_replicas: int


def cut(lengths: Seconds, pool: int, batching: Batching) -> Iterator[NDArray[np.int64]]:
    """Batches of rows, each pool of them sorted by length.

    Args:
        lengths: Seconds of each row.
        pool: Rows that are sorted together.
        batching: Bounds of a batch.
    """
    for begin in range(0, len(lengths), pool):
        rows = begin + np.argsort(-lengths[begin : begin + pool], kind="stable")
        start = 0
        while start < len(rows):
            # The first of a batch is its longest, hence the width of all its rows.
            size = max(1, int(batching.batch_seconds / lengths[rows[start]]))
            size = min(size, batching.batch_size or size)
            yield rows[start : start + size]
            start += size


def halved(batches: list[Slots], wanted: int) -> list[Slots]:
    """Batches of which the largest, the first of them, is halved until there are enough, or each is of one row.

    Args:
        batches: Rows of each.
        wanted: How many there are to be.

    >>> [rows.tolist() for rows in halved([np.array([1, 2]), np.array([3, 4, 5, 6])], 4)]
    [[1], [2], [3, 4], [5, 6]]
    """
    # A half's place is that of the whole with one number more, so that the order of places stays that of the batches.
    heap: list[tuple[int, tuple[int, ...], Slots]]
    heap = [(-len(rows), (place,), rows) for place, rows in enumerate(batches)]
    heapify(heap)
    while 0 < len(heap) < wanted and heap[0][0] < -1:
        _, place, rows = heappop(heap)
        middle = len(rows) // 2
        for half, part in enumerate((rows[:middle], rows[middle:])):
            heappush(heap, (-len(part), (*place, half), part))
    return [rows for _, _, rows in sorted(heap, key=itemgetter(1))]
