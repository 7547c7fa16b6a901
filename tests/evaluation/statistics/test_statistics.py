"""Intervals, tests, effects and power against SciPy, definitions and hand-computed values."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.statistics import (
    cohen_dz,
    difference,
    holm,
    mcnemar,
    mean,
    permutation,
    rank_biserial,
    ratio,
    signed_rank,
    spread_of,
    stars,
    swapped,
    utterances_needed,
)

DRAWN = np.random.default_rng(0)


def test_an_interval_over_clusters_is_that_of_their_sums():
    values, speakers = DRAWN.normal(size=60), [f"s{row % 6}" for row in range(60)]
    sums = [values[row::6].sum() for row in range(6)]
    found = mean(values.tolist(), speakers)
    assert found == ratio(sums, [10.0] * 6) | {"replies": 60, "clusters": 6, "value": found["value"]}
    assert found["value"] == pytest.approx(values.mean(), abs=1e-6)


def test_utterances_of_one_speaker_tell_less_than_those_of_many():
    """The width is that of the means of clusters, several times that of independent utterances."""
    of_speaker = np.repeat(DRAWN.normal(size=40), 25)
    values, speakers = (of_speaker + 0.1 * DRAWN.normal(size=1000)).tolist(), np.repeat(np.arange(40), 25).tolist()
    alone, together = mean(values), mean(values, speakers)
    expected = 1.96 * np.std(of_speaker[::25]) / math.sqrt(40)
    assert (together["high"] - together["low"]) / 2 == pytest.approx(expected, rel=0.15)
    assert together["high"] - together["low"] > 4 * (alone["high"] - alone["low"])


def test_a_paired_difference_is_drawn_together():
    shared, better = DRAWN.normal(size=300), DRAWN.normal(0.1, 0.05, size=300)
    ones = [1.0] * 300
    found = difference(((shared + better).tolist(), ones), (shared.tolist(), ones))
    assert found["value"] == pytest.approx(better.mean(), abs=1e-6)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(1.96 * better.std() / math.sqrt(300), rel=0.15)
    assert found == {**mean(better.tolist()), **{key: pytest.approx(found[key]) for key in ("value", "low", "high")}}


def test_any_figure_has_an_interval():
    values, speakers = torch.tensor(DRAWN.normal(size=50)), [row % 10 for row in range(50)]

    def _root(counts):
        return (counts @ values.square() / counts.sum(1)).sqrt()

    expected = stats.bootstrap(
        (values.numpy(),), lambda x, axis: np.sqrt((x**2).mean(axis)), method="percentile", n_resamples=4000,
        random_state=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    found = spread_of(_root, 50)
    assert found["value"] == pytest.approx(float(values.square().mean().sqrt()), abs=1e-6)
    assert [found["low"], found["high"]] == pytest.approx(list(expected), abs=0.03)
    means = spread_of(lambda counts: counts @ values / counts.sum(1), 50, speakers)
    assert means == {
        name: pytest.approx(value) for name, value in mean(values.tolist(), speakers).items() if name != "clusters"
    }


def test_a_swap_of_any_figure_is_the_permutation_test_of_means():
    own, other = torch.tensor(DRAWN.normal(0.3, 1, (2, 60)))[0], torch.tensor(DRAWN.normal(0, 1, 60))

    def _difference(swaps):
        return (own - other).mean() + 2 * swaps @ (other - own) / 60

    assert swapped(_difference, 60) == pytest.approx(permutation(own, other), abs=0.02)
    ones = torch.ones(40).double()
    alone = swapped(lambda swaps: (1 - 2 * swaps) @ ones, 40, [row % 4 for row in range(40)])
    assert (
        alone == pytest.approx(2 / 2**4, abs=0.02) and swapped(lambda swaps: (1 - 2 * swaps) @ ones, 40) == 1 / 10_000
    )


@pytest.mark.parametrize("seed", range(4))
def test_wilcoxon_s_zeros_and_ties_are_scipy_s(seed):
    drawn = np.random.default_rng(seed)
    own, other = drawn.integers(0, 3, 80), drawn.integers(0, 3, 80)
    assert signed_rank(own, other) == stats.wilcoxon(own, other, zero_method="wilcox", correction=False).pvalue
    differences = own - other
    ranks = stats.rankdata(abs(differences[differences != 0]))
    signs = np.sign(differences[differences != 0])
    deviation = math.sqrt((ranks**2).sum())  # of a sum of ranks with signs at random
    z = (ranks * signs).sum() / deviation
    assert signed_rank(own, other) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)
    assert signed_rank([1, 2, 0], [1, 2, 0]) == 1.0


def test_a_permutation_test_goes_through_all_signs():
    own, other = DRAWN.normal(0.4, 1, 9), DRAWN.normal(0, 1, 9)
    differences = own - other
    sums = [abs((differences * signs).sum()) for signs in itertools.product((1, -1), repeat=9)]
    expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert permutation(own, other) == pytest.approx(expected)
    assert permutation(other, own) == pytest.approx(expected)
    assert permutation([1, 0], [1, 0]) == permutation([1.0], [0.0]) == 1.0


def test_pairs_of_a_cluster_are_swapped_together():
    """Four speakers who agree within themselves are four coins, however many utterances they say."""
    own, speakers = [1.0] * 40, [row % 4 for row in range(40)]
    assert permutation(own, [0.0] * 40, speakers) == pytest.approx(2 / 2**4)
    assert permutation(own, [0.0] * 40) < 0.001


def test_many_pairs_are_swapped_at_random_and_always_the_same():
    own, other = DRAWN.normal(0.15, 1, 200), DRAWN.normal(0, 1, 200)
    found = permutation(own, other)
    assert found == permutation(own, other) == pytest.approx(stats.ttest_rel(own, other).pvalue, abs=0.02)


def test_mcnemar_is_the_binomial_test_of_those_that_differ():
    own, other = [1] * 9 + [0] * 2 + [1] * 30, [0] * 9 + [1] * 2 + [1] * 30
    expected = 2 * sum(math.comb(11, k) for k in range(3)) / 2**11
    assert mcnemar(own, other) == pytest.approx(expected) == pytest.approx(mcnemar(other, own))
    assert mcnemar([1, 0], [1, 0]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []
    assert [stars(p) for p in (0.05, 0.049, 0.0099, 0.0009)] == ["", "*", "**", "***"]


def test_effects_by_their_definitions():
    own, other = DRAWN.normal(0.5, 1, 30), DRAWN.normal(0, 1, 30)
    t = stats.ttest_rel(own, other).statistic
    assert cohen_dz(own, other) == pytest.approx(t / math.sqrt(30))
    # Of all pairs of pairs, their own among them: how often their mean is above 0, less how often below.
    differences = own - other
    walsh = [np.sign(differences[i] + differences[j]) for i in range(30) for j in range(i, 30)]
    assert rank_biserial(own, other) == pytest.approx(np.mean(walsh))
    assert cohen_dz([1, 2], [1, 2]) == rank_biserial([1, 2], [1, 2]) == 0.0
    assert rank_biserial([2, 2, 1], [1, 0, 1]) == 1.0 and cohen_dz([2, 2], [1, 1]) == math.inf == -cohen_dz(
        [0, 0], [1, 1]
    )


@pytest.mark.parametrize(
    ("effect", "power", "expected"), [(0.2, 0.8, 199), (0.5, 0.8, 34), (0.8, 0.8, 15), (0.5, 0.95, 54)]
)
def test_the_utterances_that_are_needed_are_those_of_the_tables(effect, power, expected):
    """G*Power's, two dependent means, two-sided, alpha 0.05."""
    assert utterances_needed(effect, power) == utterances_needed(-effect, power) == expected


def test_power_holds_when_it_is_tried():
    needed = utterances_needed(0.3)
    drawn = np.random.default_rng(5).normal(0.3, 1, (4000, needed))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.02)
    assert utterances_needed(0.0) is None and utterances_needed(1e-6) is None and utterances_needed(math.inf) == 2
    with pytest.raises(InputError, match="power and alpha"):
        utterances_needed(0.5, power=1.0)
