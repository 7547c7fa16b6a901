"""How far two judges agree on the same replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.figures import number_names
from empathy_lightning.evaluation.result_folder import Results, question_of, read_results
from empathy_lightning.evaluation.result_tables import is_wanted


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
    # By chance each score of one meets each of the other, shape (replies, replies).
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
    kappa = weighted_kappa(ours, theirs)
    known_kappa = None if np.isnan(kappa) else round(kappa, 6)
    # Ranks of scores that are all alike correlate with nothing, and scipy warns of them.
    varied = len(set(ours)) > 1 and len(set(theirs)) > 1
    spearman = round(float(spearmanr(ours, theirs).statistic), 6) if varied else None
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "replies": len(ours),
        "weighted_kappa": known_kappa,
        "spearman": spearman,
        "equal": round(sum(a == b for a, b in pairs) / len(pairs), 6),
        "difference": round(sum(a - b for a, b in pairs) / len(pairs), 6),
    }


def compare_judges(ours: Path, theirs: Path, patterns: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Agreement of the judges of two runs by each score, over the replies of which both have it.

    Args:
        ours: Folder of ``evaluate run`` with one judge.
        theirs: The same replies, measured with the other.
        patterns: Of suite/measure/score; none takes all scores that both have.

    Returns:
        Figures of :func:`agreement` with ``suite``, ``measure`` and ``score``.

    Raises:
        InputError: If the runs hold other replies, or no score in common.
    """
    first, second = read_results(ours), read_results(theirs)
    _check_replies(first, second)
    found = []
    for suite, measure, score in _shared_scores(first, second):
        if not is_wanted((suite, measure, score), patterns):
            continue
        own = _numbers(first, suite, measure, score)
        other = _numbers(second, suite, measure, score)
        both = [key for key in own if key in other]
        figures = agreement([own[key] for key in both], [other[key] for key in both])
        found.append({"suite": suite, "measure": measure, "score": score, **figures})
    if not found:
        raise InputError(f"{ours} and {theirs} have no score of a judge in common: measure both with judged")
    return found


def _check_replies(first: Results, second: Results) -> None:
    said = {question_of(line): line["reply"] for line in second.predictions}
    for line in first.predictions:
        key = question_of(line)
        if said.get(key, line["reply"]) != line["reply"]:
            raise InputError(f"{first.name} and {second.name} hold other replies to {'/'.join(key)}: no judges differ")


def _shared_scores(first: Results, second: Results) -> list[tuple[str, str, str]]:
    """Suite, measure and name of every number that judges of both runs gave."""
    found = []
    for suite, of_suite in first.metrics["suites"].items():
        others = second.metrics["suites"].get(suite, {"measures": {}})["measures"]
        for measure, held in of_suite["measures"].items():
            # Measures that asked a judge say there whom.
            if "asked" in held["figures"] and measure in others:
                names = number_names(list(first.rows(suite, measure).values()))
                found += [(suite, measure, name) for name in names]
    return found


def _numbers(results: Results, suite: str, measure: str, score: str) -> dict[tuple[str, str], float]:
    rows = results.rows(suite, measure)
    return {key: row[score] for key, row in rows.items() if isinstance(row.get(score), int | float)}
