"""Figures of emotion recognition in lines for the screen: the pool, and a row for each corpus and language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from empathy_lightning.utterance import RATINGS

_ACCURACIES = {"unweighted_accuracy": "UA", "weighted_accuracy": "WA", "macro_f1": "macro F1"}
_WIDTH = 10
_PLURALS = {"corpus": "corpora", "language": "languages"}

Groups = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Figures by kind of group (``corpus``, ``language``) and name."""


def group_table(pool: Mapping[str, Any], groups: Groups) -> str:
    """A row for the pool, for each group, and for the mean of a kind's groups, which FreezeEmpath reports of corpora.

    Args:
        pool: Of :func:`.emotion.emotion_figures`.
        groups: Of the same.
    """
    titles = {**_ACCURACIES, "calibration_error": "ECE"}
    for name in RATINGS:
        titles[f"concordance_{name}"] = name
    columns = {key: title for key, title in titles.items() if key in pool}
    rows = {"all": dict(pool)}
    for kind, named in groups.items():
        rows |= {f"{kind} {name}": dict(figures) for name, figures in named.items()}
        if len(named) > 1:
            rows[f"mean of {_PLURALS[kind]}"] = means_of(named)
    width = max(map(len, rows)) + 2
    head = "".join(f"{title:>{_WIDTH}}" for title in columns.values())
    lines = [f"{'':<{width}}{'utterances':>{_WIDTH + 2}}{head}"]
    for name, figures in rows.items():
        cells = "".join(_cell(figures.get(key)) for key in columns)
        lines.append(f"{name:<{width}}{figures.get('utterances', ''):>{_WIDTH + 2}}{cells}")
    return "\n".join(lines)


def means_of(named: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Mean over groups of each figure that all of them have."""
    found = {}
    for key in next(iter(named.values())):
        values = [figures.get(key) for figures in named.values()]
        numbers = [value for value in values if isinstance(value, float)]
        if key != "utterances" and len(numbers) == len(values):
            found[key] = round(sum(numbers) / len(numbers), 6)
    return found


def _cell(value: float | None) -> str:
    shown = "" if value is None else f"{value:.3f}"
    return f"{shown:>{_WIDTH}}"
