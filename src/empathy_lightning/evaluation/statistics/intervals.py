"""Figures over utterances with their 95 % intervals, by drawing utterances again (the percentile bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

DRAWS = 2_000
"""Draws of an interval; they are the same in every run."""


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """A sum over a sum, such as errors over words, with its interval.

    Args:
        numerators: Of each utterance.
        denominators: Of each utterance; their sum is above 0.
        clusters: Whose each utterance is: whole clusters are drawn then.

    Returns:
        ``value``, and ``low`` and ``high``, between which 95 % of 2,000 draws of as many utterances (clusters) lie;
        ``replies`` is the number of utterances, and ``clusters``, where they are given, that of the clusters.
    """
    sums = _sums([numerators, denominators], clusters)
    above, below = sums[:, _drawn(sums.shape[1])].sum(-1)
    values = above[below > 0] / below[below > 0]
    found = _rounded(float(sums[0].sum() / sums[1].sum()), values, len(numerators))
    return found if clusters is None else found | {"clusters": sums.shape[1]}


def mean(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> dict[str, float]:
    """The mean with its interval; see :func:`ratio`."""
    return ratio(values, [1.0] * len(values), clusters)


def difference(
    own: tuple[Sequence[float], Sequence[float]],
    other: tuple[Sequence[float], Sequence[float]],
    clusters: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """The difference of two systems' ratios over the same utterances, both drawn together (the paired bootstrap).

    Args:
        own: Numerators and denominators of one system; see :func:`ratio`.
        other: Of the other system, in the same order.
        clusters: Whose each utterance is.

    Returns:
        As :func:`ratio`; ``value`` is own less other.
    """
    sums = _sums([*own, *other], clusters)
    drawn = sums[:, _drawn(sums.shape[1])].sum(-1)
    drawn = drawn[:, (drawn[1] > 0) & (drawn[3] > 0)]
    return _rounded(float(_less(sums.sum(1))), _less(drawn), len(own[0]))


def _less(sums: Tensor) -> Tensor:
    """Own ratio less the other one, of sums (4, ...)."""
    return sums[0] / sums[1] - sums[2] / sums[3]


def spread_of(
    figure: Callable[[Tensor], float], utterances: int, clusters: Sequence[Hashable] | None = None, draws: int = DRAWS
) -> dict[str, float]:
    """Any figure over utterances with its interval, such as an unweighted accuracy.

    Args:
        figure: From rows (N,) of utterances, of which some come several times, to the figure; NaN of a draw that has
            none.
        utterances: Their number.
        clusters: Whose each utterance is.
        draws: How many.

    Returns:
        As :func:`ratio`.
    """
    groups = _groups(clusters) if clusters is not None else [[row] for row in range(utterances)]
    rows = [torch.tensor(group) for group in groups]
    values = [figure(torch.cat([rows[index] for index in drawn])) for drawn in _drawn(len(rows), draws).tolist()]
    spread = torch.tensor(values, dtype=torch.float64)
    return _rounded(figure(torch.arange(utterances)), spread[spread.isfinite()], utterances)


def _drawn(count: int, draws: int = DRAWS) -> Tensor:
    """Rows of each draw, shape (draws, count)."""
    return torch.randint(count, (draws, count), generator=torch.Generator().manual_seed(0))


def _groups(clusters: Sequence[Hashable]) -> list[list[int]]:
    """Rows of each cluster, in the order in which they first come."""
    found: dict[Hashable, list[int]] = {}
    for row, cluster in enumerate(clusters):
        found.setdefault(cluster, []).append(row)
    return list(found.values())


def _sums(columns: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None) -> Tensor:
    """Each column's sum inside each cluster, shape (columns, clusters); the columns themselves without clusters."""
    values = torch.tensor([list(column) for column in columns], dtype=torch.float64)
    if clusters is None:
        return values
    return torch.stack([values[:, group].sum(1) for group in _groups(clusters)], 1)


def _rounded(value: float, draws: Tensor, utterances: int) -> dict[str, float]:
    low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6), "replies": utterances}
