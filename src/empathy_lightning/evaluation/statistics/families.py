"""Several tests at once: p-values that are adjusted for their number, and the stars of a table."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of a family of tests, adjusted by Holm's step-down method (1979).

    The chance that any of them is below alpha though nothing differs is at most alpha.

    Args:
        p_values: Of the family, in any order.

    Returns:
        In the same order, in 0..1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, row in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[row]))
        adjusted[row] = highest
    return adjusted


def stars(p: float) -> str:
    """``***`` below 0.001, ``**`` below 0.01, ``*`` below 0.05, else nothing."""
    return "*" * sum(p < bound for bound in (0.05, 0.01, 0.001))
