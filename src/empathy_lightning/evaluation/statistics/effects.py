"""How large a difference between two systems is, beside whether there is one."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from empathy_lightning.evaluation.statistics.paired import differences_of


def cohen_dz(own: Sequence[float], other: Sequence[float]) -> float:
    """Mean difference of the pairs in units of its standard deviation (Cohen 1988, d_z).

    Args:
        own: Scores of one system, two or more.
        other: Of the other, pair by pair.

    Returns:
        0 where no pair differs; infinite where all differ alike.
    """
    differences = differences_of(own, other)
    middle, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return 0.0 if middle == 0 else float("inf") * middle
    return middle / spread


def rank_biserial(own: Sequence[float], other: Sequence[float]) -> float:
    """Matched-pairs rank-biserial correlation (Kerby 2014): the ranks won less those lost, as a share of all.

    Args:
        own: Scores of one system.
        other: Of the other, pair by pair; pairs without a difference do not count.

    Returns:
        In -1..1; 1 where own is higher in each pair that differs, 0 where none does.
    """
    differences = differences_of(own, other)
    differences = differences[differences != 0]
    if not len(differences):
        return 0.0
    ranks = stats.rankdata(abs(differences))
    return float((ranks[differences > 0].sum() - ranks[differences < 0].sum()) / ranks.sum())
