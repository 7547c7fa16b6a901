"""Two systems compared by one figure of a measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.evaluation.figures import number_names
from empathy_lightning.evaluation.result_folder import Results
from empathy_lightning.evaluation.statistics import (
    cohen_dz,
    difference,
    mcnemar,
    permutation,
    rank_biserial,
    signed_rank,
    spread_of,
    swapped,
)
from empathy_lightning.metrics.classification import macro_f1, unweighted_accuracy

EMOTION_FIGURES = {"unweighted_accuracy": unweighted_accuracy, "macro_f1": macro_f1}
"""Figures of emotion that no utterance has alone; weighted accuracy is the mean of ``right``."""


@dataclass(frozen=True)
class Pair:
    """A difference.

    Attributes:
        pairs: Questions that both systems have a number of.
        own: The figure of the first system, of these questions.
        other: Of the second.
        difference: Own less other.
        low: Lower end of its 95 % interval by the paired bootstrap.
        high: Upper end.
        p: Of the test, two-sided, unadjusted.
        test: Which.
        effect: Cohen's d_z; None where no reply has the figure alone, or it is infinite.
        rank_biserial: Of the pairs; 0 where no reply has the figure alone.
    """

    pairs: int
    own: float
    other: float
    difference: float
    low: float
    high: float
    p: float
    test: str
    effect: float | None = None
    rank_biserial: float = 0.0


@dataclass(frozen=True)
class _Lines:
    """What both systems say of the questions of which both say something, in one order."""

    facts: list[dict[str, Any]]
    own: list[dict[str, Any]]
    other: list[dict[str, Any]]
    clusters: list[Hashable] | None

    def only(self, *names: str) -> _Lines:
        """Those of which both have these numbers."""
        chosen = []
        for row, (own, other) in enumerate(zip(self.own, self.other, strict=True)):
            if _all_there(own, names) and _all_there(other, names):
                chosen.append(row)
        clusters = None if self.clusters is None else [self.clusters[row] for row in chosen]
        # A single speaker tells nothing of another one: the replies count as independent then.
        if clusters is not None and len(set(clusters)) < 2:
            clusters = None
        return _Lines(
            [self.facts[row] for row in chosen],
            [self.own[row] for row in chosen],
            [self.other[row] for row in chosen],
            clusters,
        )

    def columns(self, name: str) -> tuple[list[float], list[float]]:
        """A number of both."""
        return [float(row[name]) for row in self.own], [float(row[name]) for row in self.other]


def _all_there(row: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(isinstance(row.get(name), int | float) and math.isfinite(row[name]) for name in names)


def figures_to_compare(own: Results, other: Results, suite: str, measure: str) -> list[str]:
    """Names of what a measure says of replies, and of ratios and emotion figures."""
    held = own.metrics["suites"][suite]["measures"][measure]
    # What a ratio divides, and each reply's own rate, are no figures beside it.
    of_ratios = {*held["ratios"], *chain.from_iterable(held["ratios"].values())}
    rows = [*own.rows(suite, measure).values(), *other.rows(suite, measure).values()]
    names = [name for name in number_names(rows) if name not in of_ratios]
    of_emotion = EMOTION_FIGURES if "confusion" in held["figures"] else ()
    return [*held["ratios"], *of_emotion, *names]


def compare_pair(own: Results, other: Results, suite: str, measure: str, figure: str, test: str) -> Pair | None:
    """Compare two systems; None where there are not two questions that both have a number of."""
    held = own.metrics["suites"][suite]["measures"][measure]
    lines = _lines(own, other, suite, measure)
    if figure in held["ratios"]:
        above, below = held["ratios"][figure]
        return _of_ratio(lines.only(above, below), above, below)
    if figure in EMOTION_FIGURES and "confusion" in held["figures"]:
        return _of_emotion(lines, figure, held["figures"]["emotions"])
    return _of_numbers(lines.only(figure), figure, test)


def _lines(own: Results, other: Results, suite: str, measure: str) -> _Lines:
    ours, theirs = own.rows(suite, measure), other.rows(suite, measure)
    both = ours.keys() & theirs.keys()
    facts = [line for line in own.predictions if line["suite"] == suite]
    facts = [line for line in facts if _key(line) in both]
    by = own.metrics["cluster"]
    clusters: list[Hashable] | None = None
    if by != "none":
        clusters = [(line["corpus"], line[by] or f"alone {line['id']}") for line in facts]
    return _Lines(facts, [ours[_key(line)] for line in facts], [theirs[_key(line)] for line in facts], clusters)


def _key(line: Mapping[str, Any]) -> tuple[str, str]:
    return line["corpus"], line["id"]


def _of_numbers(lines: _Lines, name: str, test: str) -> Pair | None:
    if len(lines.facts) < 2:
        return None
    own, other = lines.columns(name)
    ones = [1.0] * len(own)
    spread = difference((own, ones), (other, ones), lines.clusters)
    if test == "permutation":
        p, said = permutation(own, other, lines.clusters), "permutation"
    elif test == "auto" and {*own, *other} <= {0.0, 1.0}:
        p, said = mcnemar(own, other), "McNemar"
    else:
        p, said = signed_rank(own, other), "Wilcoxon"
    effect = cohen_dz(own, other)
    known = round(effect, 4) if math.isfinite(effect) else None
    means = (sum(own) / len(own), sum(other) / len(other))
    return _pair(len(own), means, spread, p, said, known, round(rank_biserial(own, other), 4))


def _of_ratio(lines: _Lines, above: str, below: str) -> Pair | None:
    if len(lines.facts) < 2:
        return None
    own, other = _parts(lines.own, above, below), _parts(lines.other, above, below)
    if not (torch.stack([own, other]).sum(1)[:, 1] > 0).all():
        return None
    spread = difference(_columns(own), _columns(other), lines.clusters)
    p = swapped(partial(_difference, own, other, _ratio), len(own), lines.clusters)
    values = (float(_ratio(own.sum(0))), float(_ratio(other.sum(0))))
    return _pair(len(own), values, spread, p, "swapped answers")


def _parts(rows: Sequence[Mapping[str, Any]], above: str, below: str) -> Tensor:
    """What is summed above and below the line, shape (N, 2), in the double precision of the figures themselves."""
    return torch.tensor([[float(row[above]), float(row[below])] for row in rows], dtype=torch.float64)


def _columns(parts: Tensor) -> tuple[list[float], list[float]]:
    return parts[:, 0].tolist(), parts[:, 1].tolist()


def _ratio(sums: Tensor) -> Tensor:
    return sums[..., 0] / sums[..., 1]


def _of_emotion(lines: _Lines, name: str, emotions: Sequence[str]) -> Pair | None:
    if len(lines.facts) < 2:
        return None
    own, other = (_cells(lines.facts, rows, emotions) for rows in (lines.own, lines.other))
    figure = partial(_of_counts, name, len(emotions))

    def _drawn(counts: Tensor) -> Tensor:
        return figure(counts @ own) - figure(counts @ other)

    spread = spread_of(_drawn, len(own), lines.clusters)
    p = swapped(partial(_difference, own, other, figure), len(own), lines.clusters)
    return _pair(len(own), (float(figure(own.sum(0))), float(figure(other.sum(0)))), spread, p, "swapped answers")


def _cells(facts: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], emotions: Sequence[str]) -> Tensor:
    """One-hot cell of each utterance in the confusion, shape (N, classes * (classes + 1))."""
    index: dict[Any, int] = {emotion: row for row, emotion in enumerate(emotions)}
    # The last column is for answers that name none.
    none = len(emotions)
    columns = none + 1
    cells = []
    for line, row in zip(facts, rows, strict=True):
        cells.append(index[line["emotion"]] * columns + index.get(row["emotion"], none))
    return torch.nn.functional.one_hot(torch.tensor(cells), len(emotions) * columns).double()


def _of_counts(name: str, classes: int, cells: Tensor) -> Tensor:
    return EMOTION_FIGURES[name](cells.unflatten(-1, (classes, classes + 1)))


def _difference(own: Tensor, other: Tensor, figure: Callable[[Tensor], Tensor], swaps: Tensor) -> Tensor:
    """Difference of the figures of summed parts (N, parts) where the swapped utterances change sides."""
    # A swap takes an utterance's own part away and puts the other one's in its place.
    change = swaps @ (other - own)
    return figure(own.sum(0) + change) - figure(other.sum(0) - change)


def _pair(
    pairs: int,
    values: tuple[float, float],
    spread: Mapping[str, float],
    p: float,
    test: str,
    effect: float | None = None,
    ranks: float = 0.0,
) -> Pair:
    own, other = (round(value, 6) for value in values)
    interval = (spread["value"], spread["low"], spread["high"])
    return Pair(pairs, own, other, *interval, p, test, effect, ranks)
