"""A permutation test of any figure: two systems' answers are swapped at random, utterance by utterance."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from empathy_lightning.evaluation.statistics.clusters import owners_of

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
    owners = torch.tensor(owners_of(clusters, utterances))
    found = difference(torch.zeros(1, utterances, dtype=torch.float64)).abs()
    draws = torch.rand(SWAPS, int(owners.max()) + 1, generator=torch.Generator().manual_seed(0)) < 0.5
    as_large = 0
    for few in draws.split(max(1, _AT_ONCE // utterances)):
        swaps = few.double()[:, owners]
        # Differences that are equal may differ in their last bits.
        as_large += int((difference(swaps).abs() >= found - 1e-9).sum())
    # What was found counts as one of the swaps, so that p is never 0.
    return (1 + as_large) / (1 + SWAPS)
