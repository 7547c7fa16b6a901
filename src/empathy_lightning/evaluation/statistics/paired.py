"""Tests whether two systems differ on the same utterances; all two-sided."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy import stats

from empathy_lightning.evaluation.statistics.clusters import owners_of

RESAMPLES = 9_999
"""Random signs of a permutation test; all of them where there are fewer."""

_DECIMALS = 9
"""Differences of rates that are equal share a rank, whatever their last bits."""


def differences_of(own: Sequence[float], other: Sequence[float]) -> np.ndarray:
    """Own less other, pair by pair; those that differ in their last bits alone are equal."""
    return np.round(np.asarray(own, float) - np.asarray(other, float), _DECIMALS)


def signed_rank(own: Sequence[float], other: Sequence[float]) -> float:
    """P of Wilcoxon's signed-rank test, as RE-LLM compares levels of empathy.

    Pairs without a difference are left out, and equal differences share their mean rank, as
    ``scipy.stats.wilcoxon`` does by default; of fewer than 51 pairs without either, it is exact.

    Args:
        own: Scores of one system.
        other: Of the other, pair by pair.

    Returns:
        In 0..1; 1 where no pair differs.
    """
    differences = differences_of(own, other)
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def permutation(own: Sequence[float], other: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """P of the mean difference when the two systems' names are swapped at random, pair by pair.

    Exact where there are at most 9,999 ways to swap them; else of that many, the same in every run.

    Args:
        own: Scores of one system.
        other: Of the other, pair by pair.
        clusters: Whose each pair is: the pairs of a cluster are swapped together.

    Returns:
        In 0..1; 1 where no pair differs.
    """
    differences = differences_of(own, other)
    if clusters is not None:
        # A cluster that is swapped as a whole is one difference, the sum of its own.
        differences = np.bincount(owners_of(clusters, len(differences)), weights=differences)
    # One difference alone may as well have been the other way round.
    if len(differences) < 2 or not differences.any():
        return 1.0
    found = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=500,
        random_state=np.random.default_rng(0),
    )
    return float(found.pvalue)


def mcnemar(own: Sequence[float], other: Sequence[float]) -> float:
    """P of McNemar's exact test of two accuracies: the binomial test of the pairs in which one alone is right.

    Args:
        own: 1 where one system is right, else 0.
        other: Of the other system, pair by pair.

    Returns:
        In 0..1; 1 where no pair differs.
    """
    differences = differences_of(own, other)
    # Pairs in which both are right, or both wrong, tell nothing of which is better.
    won, differing = int((differences > 0).sum()), int((differences != 0).sum())
    return float(stats.binomtest(won, differing).pvalue) if differing else 1.0
