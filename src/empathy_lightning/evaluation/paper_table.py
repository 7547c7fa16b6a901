"""A paper's table as a YAML file: systems, suites, measures, the figures that it shows, and what was published.

::

    title: What the table is
    source: Where it was published
    split: test
    paper: re_llm                      # prompts of a paper, and the longest reply
    suites: {NAME: MANIFEST}
    systems:
      NAME: {checkpoint: FOLDER}       # see PaperSystem
    measures: [empathy, ...]           # as --measures of evaluate run
    figures:
      - {title: ER, figure: empathy/emotional_reaction, spread: deviation}
    compared: [SYSTEM, SYSTEM]         # whose difference is tested
    published:
      - {figure: ER, suite: NAME, values: {SYSTEM: "1.780 (.454)"}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from empathy_lightning.configurations import merged
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation.measure_choice import Choice, entries_of


@dataclass(frozen=True)
class PaperSystem:
    """A system of a table, one way or another to have its replies; with none it is known by what was published alone.

    ``{suite}`` in a path stands for the suite's name, where each suite has a system of its own.

    Attributes:
        checkpoint: Folder of a bot that answers the speech.
        slots: ``speech_slot`` and ``emotion_slot`` in the place of the folder's, such as ``Transcript``.
        speech: Whether the bot answers aloud.
        language_model: Frozen model that answers the transcripts instead of a bot.
        labelled: Whether that model is told the true emotion.
        transcripts: Recogniser whose words take the place of the transcripts.
        replies: Manifest of replies that are there already.
        prompt: ``{user: ..., system: ...}`` in the place of the paper's.
    """

    checkpoint: str | None = None
    slots: dict[str, str] = field(default_factory=dict)
    speech: bool = False
    language_model: str | None = None
    labelled: bool = False
    transcripts: str | None = None
    replies: str | None = None
    prompt: dict[str, str] | None = None

    @property
    def is_run(self) -> bool:
        """Whether its replies can be had."""
        return any((self.checkpoint, self.language_model, self.replies))

    def of(self, suite: str) -> PaperSystem:
        """The system of a suite."""
        paths: dict[str, Any] = {}
        for name in ("checkpoint", "language_model", "replies"):
            path = getattr(self, name)
            paths[name] = None if path is None else path.replace("{suite}", suite)
        return replace(self, **paths)


@dataclass(frozen=True)
class PaperFigure:
    """A figure that the table shows.

    Attributes:
        title: In the table.
        figure: ``measure/figure`` of a run.
        suites: Of which it is shown; none takes all.
        spread: ``deviation``, ``interval`` or ``none`` beside it.
        mean_of: ``corpus`` or another group: the mean over its groups instead of the pool.
    """

    title: str
    figure: str
    suites: tuple[str, ...] = ()
    spread: str = "none"
    mean_of: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table.

    Attributes:
        title: What it is.
        source: Where it was published.
        suites: Manifests by name.
        systems: By name.
        measures: What is measured.
        figures: Rows, for each of their suites.
        compared: Two systems whose difference is tested, or none.
        published: By figure's title, suite and system, as printed there.
        split: Of the manifests.
        paper: Whose prompts are asked, see :mod:`.papers`; None asks as each folder does.
    """

    title: str
    source: str
    suites: dict[str, Path]
    systems: dict[str, PaperSystem]
    measures: list[Choice]
    figures: list[PaperFigure]
    compared: tuple[str, ...] = ()
    published: dict[tuple[str, str, str], str] = field(default_factory=dict)
    split: str = "test"
    paper: str | None = None


def read_table(names: Sequence[str | Path]) -> PaperTable:
    """Read a table.

    Args:
        names: YAML files or ``recipe:NAME``, later ones over the earlier.

    Raises:
        InputError: If something is missing, or is not known.
    """
    content = merged(names)
    where = str(names[0])
    known = {one.name for one in fields(PaperTable)}
    _refuse_unknown(content, known, where)
    for name in ("title", "source", "suites", "systems", "measures", "figures"):
        if not content.get(name):
            raise InputError(f"{where} names no {name}")
    suites = {str(name): Path(str(path)) for name, path in content["suites"].items()}
    systems = {}
    for name, row in content["systems"].items():
        systems[str(name)] = _record(PaperSystem, row or {}, f"{where}, system {name}")
    figures = []
    for row in content["figures"]:
        figure = _record(PaperFigure, {**row, "suites": tuple(row.get("suites", ()))}, f"{where}, figures")
        _check_names(figure.suites, suites, f"{where}, figure {figure.title}")
        figures.append(figure)
    compared = tuple(content.get("compared") or ())
    _check_names(compared, systems, f"{where}, compared")
    if len(compared) not in (0, 2):
        raise InputError(f"{where}: compared takes two systems")
    published = _published(content.get("published") or [], figures, suites, systems, where)
    measures = entries_of(content["measures"], where)
    rest = {name: content[name] for name in ("split", "paper") if content.get(name)}
    found = (content["title"], content["source"], suites, systems, measures, figures, compared, published)
    return PaperTable(*found, **rest)


def _published(
    rows: Sequence[Mapping[str, Any]],
    figures: Sequence[PaperFigure],
    suites: Mapping[str, Path],
    systems: Mapping[str, PaperSystem],
    where: str,
) -> dict[tuple[str, str, str], str]:
    """What was printed, by figure, suite and system; ``p`` stands for the test of those compared."""
    found = {}
    for row in rows:
        _check_names([row["figure"]], [figure.title for figure in figures], f"{where}, published")
        _check_names([row["suite"]], suites, f"{where}, published")
        for system, text in row["values"].items():
            _check_names([system], [*systems, "p"], f"{where}, published")
            found[row["figure"], row["suite"], str(system)] = str(text)
    return found


def _record(kind: Any, row: Mapping[str, Any], where: str) -> Any:
    known = {one.name for one in fields(kind)}
    _refuse_unknown(row, known, where)
    try:
        return kind(**row)
    except TypeError as error:
        # "PaperFigure.__init__() missing ...": the user knows no class of that name.
        raise InputError(f"{where}: {str(error).partition(') ')[2] or error}") from None


def _refuse_unknown(row: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in row:
        if name not in known:
            raise InputError(f"{where}: {name!r} is not known there{meant(name, known)}")


def _check_names(names: Sequence[str], known: Any, where: str) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{where}: there is no {name!r}{meant(name, known)}")
