"""Figures over replies with their 95 % intervals, by drawing replies again (the percentile bootstrap)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_DRAWS = 2_000


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, float]:
    """A sum over a sum, such as errors over words, with the interval over the replies.

    Args:
        numerators: Of each reply.
        denominators: Of each reply; their sum is above 0.

    Returns:
        ``value``, and ``low`` and ``high``, between which 95 % of 2,000 draws of as many replies lie (the draws are
        always the same); ``replies`` is their number.
    """
    pairs = torch.tensor([list(numerators), list(denominators)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(pairs.shape[1], (_DRAWS, pairs.shape[1]), generator=generator)
    above, below = (row[drawn].sum(1) for row in pairs)
    values = above[below > 0] / below[below > 0]
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    whole = float(pairs[0].sum() / pairs[1].sum())
    return {"value": round(whole, 6), "low": round(low, 6), "high": round(high, 6), "replies": pairs.shape[1]}


def mean(values: Sequence[float]) -> dict[str, float]:
    """The mean with its interval; see :func:`ratio`."""
    return ratio(values, [1.0] * len(values))
