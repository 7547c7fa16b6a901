"""Several systems' figures side by side, from the folders of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.figures import value_of
from empathy_lightning.evaluation.result_folder import Results, read_results
from empathy_lightning.evaluation.table_formats import FORMATS

SPREADS = ("interval", "deviation", "none")
"""What stands beside a value."""


def read_all(folders: Sequence[Path]) -> dict[str, Results]:
    """Results by the names of their folders, or by their paths where two have one name.

    Raises:
        InputError: If there is none, or a folder holds none.
    """
    if not folders:
        raise InputError("give one folder of `evaluate run` or more")
    found = [read_results(folder) for folder in folders]
    names = [results.name for results in found]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise InputError("a folder is given twice: name each system once")
    return dict(zip(names, found, strict=True))


def figures_by_key(results: Results) -> dict[tuple[str, str, str], Any]:
    """Single figures by suite, measure and name."""
    found = {}
    for suite, of_suite in results.metrics["suites"].items():
        for measure, held in of_suite["measures"].items():
            for name, figure in held["figures"].items():
                if value_of(figure) is not None:
                    found[suite, measure, name] = figure
    return found


def result_table(folders: Sequence[Path], form: str, patterns: Sequence[str] = (), spread: str = "interval") -> str:
    """A table with a row for each figure and a column for each system.

    Args:
        folders: Of ``evaluate run``.
        form: ``markdown``, ``csv`` or ``latex``.
        patterns: Of ``suite/measure/figure``, as of file names; none takes every figure.
        spread: ``interval``, ``deviation`` (of the replies) or ``none`` beside each value.

    Raises:
        InputError: If a folder holds no results, or no figure is left.
    """
    systems = {name: figures_by_key(results) for name, results in read_all(folders).items()}
    # A dict keeps the order in which systems name their figures, each once.
    every: dict[tuple[str, str, str], Any] = {}
    for figures in systems.values():
        every |= dict.fromkeys(figures)
    keys = [key for key in every if is_wanted(key, patterns)]
    if patterns and not keys:
        raise InputError(f"no figure is named {', '.join(patterns)}: patterns are of suite/measure/figure")
    rows = []
    for key in keys:
        suite, measure, name = key
        cells = [shown(figures.get(key), spread) for figures in systems.values()]
        rows.append([suite, measure, name.replace("_", " "), *cells])
    return FORMATS[form](["suite", "measure", "figure", *systems], rows)


def is_wanted(key: tuple[str, str, str], patterns: Sequence[str]) -> bool:
    """Whether a figure, by its suite, measure and name, is among those that patterns of ``suite/measure/figure`` take.

    No pattern takes all.
    """
    return not patterns or any(fnmatchcase("/".join(key), pattern) for pattern in patterns)


def shown(figure: Any, spread: str = "interval") -> str:
    """A figure as a cell; empty where there is none."""
    value = value_of(figure)
    if value is None:
        return ""
    cell = f"{value:g}" if isinstance(figure, int) else f"{value:.3f}"
    held = figure if isinstance(figure, dict) else {}
    if spread == "interval" and "low" in held:
        return f"{cell} [{held['low']:.3f}, {held['high']:.3f}]"
    if spread == "deviation" and "deviation" in held:
        return f"{cell} ({held['deviation']:.3f})"
    return cell
