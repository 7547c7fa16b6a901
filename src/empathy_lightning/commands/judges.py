"""``evaluate criteria`` and ``agreement``: what judges are asked, and how far two of them agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def criteria() -> None:
    """The criteria that come with the package: what they ask, of whom, and whose words they are."""
    from empathy_lightning.evaluation.criterion_files import criterion_names, load_criterion

    for name in criterion_names():
        found = load_criterion(name)
        given = f"user {found.wording.user}, reply {found.wording.reply}"
        print(
            f"{name} (version {found.version}, wording {found.origin}; {given})\n    {found.title}\n    {found.source}"
        )


def agreement(
    ours: Path,
    theirs: Path,
    /,
    *,
    scores: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    out: Path | None = None,
) -> None:
    """Agreement of two judges on the same replies: weighted kappa, Spearman, equal scores.

    Args:
        ours: Folder of evaluate run with one judge.
        theirs: Of the same replies with the other.
        scores: Patterns of suite/measure/score (default: every score of a judge that both have).
        out: JSON file for the figures.

    Raises:
        InputError: If a folder holds no results or other replies, or too few replies have both scores.
    """
    from empathy_lightning.evaluation.agreement import compare_judges
    from empathy_lightning.evaluation.table_formats import markdown
    from empathy_lightning.files import check_target, write_json

    check_target(out, [])
    found = compare_judges(ours, theirs, scores)
    rows = []
    for figures in found:
        suite, measure, score, *values = figures.values()
        cells = ["undefined" if value is None else f"{value:.6g}" for value in values]
        rows.append([suite, measure, score, *cells])
    print(markdown([name.replace("_", " ") for name in found[0]], rows), end="")
    if out is not None:
        write_json(out, found)
