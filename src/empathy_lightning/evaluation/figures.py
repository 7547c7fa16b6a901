"""From the rows of a measure to its figures: of all replies, and of those of a corpus, a language, a speaker, ..."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measure, Measured
from empathy_lightning.evaluation.statistics import mean, ratio
from empathy_lightning.utterance import Utterance

Row = dict[str, Any] | None
GROUPS = ("corpus", "language", "speaker", "ability", "emotion")
"""Fields of an utterance by which figures are also given."""

CLUSTERS = ("speaker", "session", "none")
"""What may be drawn together where an interval is computed."""

_RATIO = tuple[str, str]


def clusters_of(replies: Sequence[Utterance], by: str) -> list[Hashable] | None:
    """Whose each reply is, where intervals are drawn over whole speakers or sessions (dialogues).

    Args:
        replies: Those whose speaker is unknown are drawn alone.
        by: One of :data:`CLUSTERS`.

    Returns:
        None for ``none``, and where there are not two clusters, which tell nothing of another one.

    Raises:
        InputError: If there is no such field.
    """
    if by not in CLUSTERS:
        raise InputError(f"intervals are drawn over {', '.join(CLUSTERS)}, not over {by!r}")
    if by == "none":
        return None
    found: list[Hashable] = []
    for reply in replies:
        name = getattr(reply, by)
        owner = (reply.corpus, name) if name else (reply.corpus, reply.id, "alone")
        found.append(owner)
    return found if len(set(found)) > 1 else None


def figures_of(measure: Measure, replies: Sequence[Utterance], measured: Measured, cluster: str) -> dict[str, Any]:
    """Figures of all replies: the measure's own, and the mean of each number of its rows with its interval."""
    means = _from_rows(measure, replies, measured.rows, cluster)
    found = dict(means)
    for name, figure in measured.figures.items():
        # A mean of the rows that the measure itself gives, whatever it calls it, gets the interval over clusters.
        same = [mean for mean in means.values() if _same(figure, mean)]
        found[name] = same[0] if same else figure
    return found


def groups_of(
    measure: Measure, replies: Sequence[Utterance], rows: Sequence[Row], cluster: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures by kind of group and name, of the kinds of which there are two groups or more."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in GROUPS:
        members: dict[str, list[int]] = {}
        for index, reply in enumerate(replies):
            name = getattr(reply, kind)
            if name and rows[index] is not None:
                members.setdefault(str(name), []).append(index)
        if len(members) > 1:
            found[kind] = {}
            for name in sorted(members):
                few, own = [replies[i] for i in members[name]], [rows[i] for i in members[name]]
                # A speaker is one cluster.
                over = "none" if kind == cluster else cluster
                found[kind][name] = _from_rows(measure, few, own, over) | _own(measure, few, own)
    return found


def _own(measure: Measure, replies: Sequence[Utterance], rows: Sequence[Row]) -> dict[str, Any]:
    again = getattr(measure, "figures", None)
    return dict(again(replies, rows)) if again is not None else {}


def _from_rows(measure: Measure, replies: Sequence[Utterance], rows: Sequence[Row], cluster: str) -> dict[str, Any]:
    """Means and ratios of the numbers of rows."""
    clusters = clusters_of(replies, cluster)
    ratios: Mapping[str, _RATIO] = getattr(measure, "ratios", {})
    parts = set(chain.from_iterable(ratios.values()))
    found: dict[str, Any] = {}
    for name, pair in ratios.items():
        known = [index for index, row in enumerate(rows) if _has_all(row, pair)]
        above, below = (_column(rows, known, part) for part in pair)
        if sum(below) > 0:
            found[name] = ratio(above, below, _chosen(clusters, known))
    for name in number_names(rows):
        if name in parts or name in ratios:
            continue
        known = [index for index, row in enumerate(rows) if _number(row, name) is not None]
        values = _column(rows, known, name)
        found[name] = mean(values, _chosen(clusters, known)) | {"deviation": round(_deviation(values), 6)}
    return found


def number_names(rows: Sequence[Row]) -> list[str]:
    """Names under which rows hold numbers, in the order in which they come."""
    # The keys of a dict are a set that keeps its order.
    found: dict[str, None] = {}
    for row in rows:
        for name in row or {}:
            if _number(row, name) is not None:
                found[name] = None
    return list(found)


def _number(row: Row, name: str) -> float | None:
    value = None if row is None else row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _has_all(row: Row, names: Sequence[str]) -> bool:
    return row is not None and None not in map(row.get, names)


def _column(rows: Sequence[Row], places: Sequence[int], name: str) -> list[float]:
    """A number of the rows at these places, all of which hold it."""
    return [float((rows[place] or {})[name]) for place in places]


def _chosen(clusters: Sequence[Hashable] | None, rows: Sequence[int]) -> list[Hashable] | None:
    if clusters is None:
        return None
    chosen = [clusters[row] for row in rows]
    return chosen if len(set(chosen)) > 1 else None


def _deviation(values: Sequence[float]) -> float:
    middle = sum(values) / len(values)
    return math.sqrt(sum((value - middle) ** 2 for value in values) / len(values))


def _same(figure: Any, other: Mapping[str, float]) -> bool:
    """Whether a figure is this mean of this many replies."""
    if not (isinstance(figure, dict) and {"value", "replies"} <= set(figure)):
        return False
    return figure["replies"] == other["replies"] and abs(figure["value"] - other["value"]) < 1e-5


def value_of(figure: Any) -> float | None:
    """The number of a figure, with or without an interval; None of anything else."""
    value = figure.get("value") if isinstance(figure, dict) else figure
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
