"""Whose each utterance is, as numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def owners_of(clusters: Sequence[Hashable] | None, utterances: int) -> list[int]:
    """The number of each utterance's cluster, in the order in which they come; its own where there are none.

    >>> owners_of(["ann", "bob", "ann"], 3), owners_of(None, 3)
    ([0, 1, 0], [0, 1, 2])
    """
    if clusters is None:
        return list(range(utterances))
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    return [numbers[cluster] for cluster in clusters]
