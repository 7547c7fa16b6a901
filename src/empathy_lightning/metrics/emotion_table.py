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
    columns = {**_ACCURACIES, "calibration_error": "ECE", **{f"concordance_{name}": name for name in RATINGS}}
    columns = {key: title for key, title in columns.items() if key in pool}
    rows = {"all": dict(pool)}
    for kind, named in groups.items():
        rows |= {f"{kind} {name}": dict(figures) for name, figures in named.items()}
        if len(named) > 1:
            rows[f"mean of {_PLURALS[kind]}"] = means_of(named)
    width = max(map(len, rows)) + 2
    lines = [f"{'':<{width}}{'utterances':>{_WIDTH + 2}}" + "".join(f"{t:>{_WIDTH}}" for t in columns.values())]
    for name, figures in rows.items():
        cells = "".join(_cell(figures.get(key)) for key in columns)
        lines.append(f"{name:<{width}}{figures.get('utterances', ''):>{_WIDTH + 2}}{cells}")
    return "\n".join(lines)


def means_of(named: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Mean over groups of each figure that all of them have."""
    found = {}
    for key in next(iter(named.values())):
        values = [figures.get(key) for figures in named.values()]
        if key != "utterances" and all(isinstance(value, float) for value in values):
            found[key] = round(sum(value for value in values if value is not None) / len(values), 6)
    return found


def _cell(value: float | None) -> str:
    return f"{'' if value is None else f'{value:.3f}':>{_WIDTH}}"
