"""Figures over utterances with their 95 % intervals, by drawing utterances again (the percentile bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from empathy_lightning.evaluation.statistics.clusters import owners_of

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
    # A draw may consist of utterances without any unit, such as replies without a word.
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
    figure: Callable[[Tensor], Tensor], utterances: int, clusters: Sequence[Hashable] | None = None
) -> dict[str, float]:
    """Any figure over utterances with its interval, such as an unweighted accuracy.

    Args:
        figure: From how often each utterance counts, shape (draws, N), in double precision, to the figure of each draw,
            shape (draws,); NaN of a draw that has none.
        utterances: Their number.
        clusters: Whose each utterance is.

    Returns:
        As :func:`ratio`.
    """
    owners = torch.tensor(owners_of(clusters, utterances))
    drawn = _drawn(int(owners.max()) + 1)
    # From which clusters each draw takes to how often it takes each, shape (draws, clusters).
    counts = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    values = figure(counts[:, owners]).double()
    whole = float(figure(torch.ones(1, utterances, dtype=torch.float64)))
    return _rounded(whole, values[values.isfinite()], utterances)


def _drawn(count: int) -> Tensor:
    """Rows of each draw, shape (draws, count)."""
    return torch.randint(count, (DRAWS, count), generator=torch.Generator().manual_seed(0))


def _sums(columns: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None) -> Tensor:
    """Each column's sum inside each cluster, shape (columns, clusters); the columns themselves without clusters."""
    values = torch.tensor([list(column) for column in columns], dtype=torch.float64)
    if clusters is None:
        return values
    owners = torch.tensor(owners_of(clusters, values.shape[1]))
    return torch.zeros(len(values), int(owners.max()) + 1, dtype=torch.float64).index_add_(1, owners, values)


def _rounded(value: float, draws: Tensor, utterances: int) -> dict[str, float]:
    low, high = draws.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6), "replies": utterances}
