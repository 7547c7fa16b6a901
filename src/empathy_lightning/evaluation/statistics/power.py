"""How many utterances a comparison needs."""

from __future__ import annotations

import math

from scipy import stats

from empathy_lightning.errors import InputError

MOST = 10_000_000
"""Utterances above which no number is given."""


def power_of(effect: float, utterances: int, alpha: float = 0.05) -> float:
    """Chance that the two-sided paired t-test finds a difference.

    Args:
        effect: The difference in units of its standard deviation over the pairs (:func:`.effects.cohen_dz`).
        utterances: Pairs, 2 or more.
        alpha: Level of the test.

    Returns:
        In 0..1.
    """
    freedom, shift = utterances - 1, abs(effect) * math.sqrt(utterances)
    critical = stats.t.isf(alpha / 2, freedom)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


def utterances_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Utterances with which the paired t-test finds a difference of this size.

    Wilcoxon's test needs at most 1.16 times as many, and of normal differences 1.05 times (its efficiency against
    the t-test, Hodges and Lehmann 1956).

    Args:
        effect: The difference in units of its standard deviation over the pairs.
        power: Chance to find it, in 0..1.
        alpha: Level of the test, in 0..1.

    Returns:
        At least 2; None where there is no difference, or more than ten million are needed.

    Raises:
        InputError: If power or alpha is no share, or the effect is no number.
    """
    if not (0 < alpha < power < 1) or math.isnan(effect):
        raise InputError("power and alpha lie between 0 and 1, alpha below power, and the effect is a number")
    if effect == 0 or power_of(effect, MOST, alpha) < power:
        return None
    if math.isinf(effect):
        return 2
    # Doubled until it suffices, then halved into: the power grows with the number.
    too_few, enough = 1, 2
    while power_of(effect, enough, alpha) < power:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if power_of(effect, middle, alpha) < power:
            too_few = middle
        else:
            enough = middle
    return enough
