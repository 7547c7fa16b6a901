"""All figures of emotion recognition from what is true and what was heard: the one place where they are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.metrics.calibration import calibration_bins, calibration_error
from empathy_lightning.metrics.classification import (
    count_labels,
    macro_f1,
    recalls,
    unweighted_accuracy,
    weighted_accuracy,
)
from empathy_lightning.metrics.regression import concordance, mean_squared_error, moments, pearson

Pairs = tuple[Sequence[float | None], Sequence[float | None]]
"""Ratings that were heard, and the reference's of the same utterances; None where there is none."""


@dataclass(frozen=True)
class Recognised:
    """What is true of utterances and what was heard, side by side.

    Attributes:
        emotions: Names of the categories.
        true: The reference's category of each utterance.
        heard: The one that was recognised; None where the answer names none, which is wrong.
        probabilities: Of each category, for each utterance; empty where nothing gives them.
        ratings: By name, such as ``arousal``.
    """

    emotions: Sequence[str]
    true: Sequence[str]
    heard: Sequence[str | None]
    probabilities: Sequence[Mapping[str, float]] = ()
    ratings: Mapping[str, Pairs] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """See :func:`emotion_figures`."""
        return emotion_figures(self.emotions, self.true, self.heard, self.probabilities, self.ratings)

    def only(self, rows: Sequence[int]) -> Recognised:
        """Some of the utterances."""
        ratings = {}
        for name, (heard, rated) in self.ratings.items():
            ratings[name] = ([heard[row] for row in rows], [rated[row] for row in rows])
        true = [self.true[row] for row in rows]
        heard_here = [self.heard[row] for row in rows]
        shares = [self.probabilities[row] for row in rows] if self.probabilities else ()
        return Recognised(self.emotions, true, heard_here, shares, ratings)

    def by(self, names: Sequence[str | None]) -> dict[str, dict[str, Any]]:
        """Figures of each group, such as each corpus, sorted by name; none where there are not two groups.

        Args:
            names: Of each utterance's group; None where it has none.
        """
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name:
                groups.setdefault(name, []).append(row)
        if len(groups) < 2:
            return {}
        return {name: self.only(groups[name]).figures() for name in sorted(groups)}


def emotion_figures(
    emotions: Sequence[str],
    true: Sequence[str],
    heard: Sequence[str | None],
    probabilities: Sequence[Mapping[str, float]] = (),
    ratings: Mapping[str, Pairs] | None = None,
) -> dict[str, Any]:
    """Figures of the categories, and of the ratings where there are any.

    Args:
        emotions: As the other arguments those of :class:`Recognised`.
        true: See there.
        heard: See there.
        probabilities: See there.
        ratings: See there.

    Returns:
        ``utterances``; ``unweighted_accuracy`` (mean of the ``recalls``), ``weighted_accuracy``, ``macro_f1``;
        ``unparseable`` answers; the ``confusion``, rows by reference, with a last column of those; with probabilities
        ``calibration_error`` and its ``reliability`` (for each filled part utterances, mean confidence and accuracy);
        ``concordance_X``, ``pearson_X`` and ``mean_squared_error_X`` of each rating. What cannot be computed is left
        out.
    """
    counts = confusion(emotions, true, heard)
    found: dict[str, Any] = {"utterances": len(true)}
    found |= _finite(
        {
            "unweighted_accuracy": unweighted_accuracy(counts),
            "weighted_accuracy": weighted_accuracy(counts),
            "macro_f1": macro_f1(counts),
        }
    )
    found["recalls"] = _finite(dict(zip(emotions, recalls(counts), strict=True)))
    found |= {"unparseable": int(counts[:, -1].sum()), "emotions": list(emotions), "confusion": counts.tolist()}
    if probabilities:
        found |= _calibration(emotions, true, probabilities)
    for name, (own, rated) in (ratings or {}).items():
        found |= rating_figures(name, moments(_numbers(own), _numbers(rated)))
    return found


def confusion(emotions: Sequence[str], true: Sequence[str], heard: Sequence[str | None]) -> Tensor:
    """Counts (classes, classes + 1) of named categories; see :func:`.classification.count_labels`."""
    index: dict[str | None, int] = {name: row for row, name in enumerate(emotions)}
    target = torch.tensor([index[name] for name in true], dtype=torch.long)
    # -1 counts as an answer that names none.
    predicted = torch.tensor([index.get(name, -1) for name in heard], dtype=torch.long)
    return count_labels(target, predicted, len(emotions))


def rating_figures(name: str, sums: Tensor) -> dict[str, float]:
    """Agreement of a rating, from its :func:`.regression.moments` (6,); nothing of fewer than two pairs."""
    if sums[0] < 2:
        return {}
    values = {
        "concordance": concordance(sums),
        "pearson": pearson(sums),
        "mean_squared_error": mean_squared_error(sums),
    }
    return {f"{kind}_{name}": value for kind, value in _finite(values).items()}


def _calibration(
    emotions: Sequence[str], true: Sequence[str], probabilities: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    shares = torch.tensor([[row.get(name, 0.0) for name in emotions] for row in probabilities])
    bins = calibration_bins(shares, torch.tensor([list(emotions).index(name) for name in true]))
    filled = bins[bins[:, 0] > 0]
    curve = []
    for count, sure, right in filled.tolist():
        curve.append([int(count), round(sure / count, 6), round(right / count, 6)])
    return {"calibration_error": round(float(calibration_error(bins)), 6), "reliability": curve}


def _numbers(values: Sequence[float | None]) -> Tensor:
    return torch.tensor([math.nan if value is None else value for value in values])


def _finite(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Six decimals of those that are there."""
    return {name: round(float(value), 6) for name, value in values.items() if math.isfinite(float(value))}
