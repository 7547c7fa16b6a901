"""A permutation test of any figure: two systems' answers are swapped at random, utterance by utterance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

SWAPS = 9_999
"""Random swaps, the same in every run."""

_AT_ONCE = 2_000_000
"""Swaps times utterances that are looked at together, for memory's sake."""


def swapped(
    difference: Callable[[Tensor], Tensor], utterances: int, clusters: Sequence[Hashable] | None = None
) -> float:
    """p, two-sided, of a difference between two systems' figures, such as their unweighted accuracies.

    Args:
        difference: From which utterances are swapped, 1 or 0 in double precision, shape (swaps, N), to the difference
            of the figures, shape (swaps,).
        utterances: Their number.
        clusters: Whose each utterance is; those of a cluster are swapped together.

    Returns:
        At least 1 / 10,000.
    """
    owners = list(range(utterances)) if clusters is None else list(clusters)
    rows = {owner: row for row, owner in enumerate(dict.fromkeys(owners))}
    of = torch.tensor([rows[owner] for owner in owners])
    found = difference(torch.zeros(1, utterances, dtype=torch.float64)).abs()
    draws = torch.rand(SWAPS, len(rows), generator=torch.Generator().manual_seed(0)) < 0.5
    as_large = 0
    for few in draws.split(max(1, _AT_ONCE // utterances)):
        as_large += int((difference(few.double()[:, of]).abs() >= found - 1e-9).sum())
    return (1 + as_large) / (1 + SWAPS)
