"""How far two judges agree on the same replies."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lightning.errors import InputError, meant


def weighted_kappa(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 less the squared differences over those by chance.

    The weights are the differences of the scores themselves, so that means of several answers count as they are. On
    whole numbers it is scikit-learn's ``cohen_kappa_score(weights="quadratic")`` with all numbers of the scale as
    labels.

    Args:
        ours: Scores of one judge.
        theirs: Of the other, in the same order.

    Returns:
        At most 1; NaN where both gave one and the same score to all.
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    seen = ((a - b) ** 2).mean()
    by_chance = ((a[:, None] - b[None]) ** 2).mean()
    return float(1 - seen / by_chance) if by_chance else float("nan")


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Weighted kappa, Spearman's rank correlation, share of equal scores and mean difference.

    Args:
        ours: Scores of one judge.
        theirs: Of the other, in the same order.

    Returns:
        Figures by name; None for one that is not defined, because a judge gave one score to all.

    Raises:
        InputError: If there are fewer than two pairs.
    """
    from scipy.stats import spearmanr

    if len(ours) < 2:
        raise InputError(f"{len(ours)} replies have a score of both judges: two at least are needed")
    varied = len(set(ours)) > 1 and len(set(theirs)) > 1
    kappa = weighted_kappa(ours, theirs)
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "replies": len(ours),
        "weighted_kappa": None if np.isnan(kappa) else round(kappa, 6),
        "spearman": round(float(spearmanr(ours, theirs).statistic), 6) if varied else None,
        "equal": round(sum(a == b for a, b in pairs) / len(pairs), 6),
        "difference": round(sum(a - b for a, b in pairs) / len(pairs), 6),
    }


def compare_judges(ours: Path, theirs: Path, score: str = "score") -> dict[str, Any]:
    """Agreement of two files that ``evaluate judge`` wrote, over the replies of which both have the score.

    Args:
        ours: One judge's file.
        theirs: The other's.
        score: Its name.

    Raises:
        InputError: If a file is none of these, or they have too few replies in common.
    """
    first, second = _scores(ours, score), _scores(theirs, score)
    shared = [key for key in first if key in second]
    return agreement([first[key] for key in shared], [second[key] for key in shared])


def _scores(file: Path, score: str) -> dict[tuple[str, str], float]:
    """The numbers of a score by corpus and id."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["scores"]
        names = {name for row in rows for name in row}
        if rows and score not in names:
            raise InputError(f"{file} has no score {score!r}{meant(score, names)}")
        return {(row["corpus"], row["id"]): row[score] for row in rows if isinstance(row.get(score), int | float)}
    except FileNotFoundError:
        raise InputError(f"no file at {file}: write it with `empathy-lightning evaluate judge`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} was not written by `empathy-lightning evaluate judge`") from None
