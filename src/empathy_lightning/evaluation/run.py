"""Answer manifests, measure the replies and write the results, so that all of it can be run again.

What was answered lies in shards, and what each measure said of each suite in a file of its own: a run that was stopped,
or one with more measures, goes on from there. A measure that fails leaves the others as they are.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.figures import clusters_of, figures_of, groups_of
from empathy_lightning.evaluation.measure_choice import Choice, build, described
from empathy_lightning.evaluation.measured import Measure, Measured
from empathy_lightning.evaluation.measuring import made_of, measured_suite
from empathy_lightning.evaluation.result_folder import prediction, write_predictions
from empathy_lightning.evaluation.run_replies import Source, by_suite
from empathy_lightning.files import check_folder, write_json
from empathy_lightning.jobs import locked
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

_ELSEWHERE = "another process measures the replies"

Suites = Mapping[str, Sequence[Utterance]]
"""Replies by suite."""


def evaluate_run(
    source: Source,
    out: Path,
    choices: Sequence[Choice],
    cluster: str = "speaker",
    again: bool = False,
    page: bool = True,
) -> dict[str, str]:
    """Answer, measure and report.

    Args:
        source: Whose replies.
        out: Folder of the results.
        choices: The measures.
        cluster: Over what intervals are drawn, see :func:`.figures.clusters_of`.
        again: Make the replies and the measures anew.
        page: Write report.html too.

    Returns:
        Why measures are missing, by ``SUITE: MEASURE``; empty where all is there, and for a process that left the
        measuring to another one.

    Raises:
        InputError: If something cannot be used; what was scored is kept.
    """
    # Refused before anything is answered, and measures are built before for the same reason.
    clusters_of([], cluster)
    check_folder(out)
    measures = build(choices, _context(source, out))
    read = source.read(out, again)
    if read is None:
        return {}
    suites = by_suite(read)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / ".measuring.lock", _ELSEWHERE):
            facts = {**source.described(), "measures": described(choices), "cluster": cluster, "versions": _versions()}
            found, missing, faults = _measure(suites, out, measures, choices, again)
            _report(suites, out, measures, found, {**facts, "missing": missing}, page)
    except InputError as error:
        # Under torchrun a process that ends with an error would end the one that measures.
        if str(error) != _ELSEWHERE:
            raise
        print(f"{out}: {_ELSEWHERE}")
        return {}
    if faults:
        raise faults[0]
    return missing


def _context(source: Source, out: Path) -> dict[str, Any]:
    """What measures are given that have an argument of the name and were given none."""
    if source.answering is None:
        return {"out": str(out)}
    return {"out": str(out), "checkpoint": str(source.answering.checkpoint), "trust": list(source.answering.trust)}


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("empathy_lightning", "torch", "transformers")}
    return {**libraries, "python": platform.python_version()}


def _unasked(wanted: Mapping[str, Choice], suites: Suites) -> dict[str, str]:
    """Measures of which no suite of this run is asked, since it is named otherwise."""
    found = {}
    for name, choice in wanted.items():
        if choice.suites and not set(choice.suites) & set(suites):
            there = ", ".join(suites)
            found[name] = f"it is for {', '.join(choice.suites)}, and the suites of this run are {there:.150}"
    return found


def _measure(
    suites: Suites, out: Path, measures: Mapping[str, Measure], choices: Sequence[Choice], again: bool
) -> tuple[dict[str, dict[str, Measured]], dict[str, str], list[Exception]]:
    """What the measures say by suite, why some are missing, and the faults of the program among those reasons."""
    wanted = dict(zip(measures, choices, strict=True))
    chosen = dict(zip(measures, described(choices), strict=True))
    asked = []
    for suite, name in product(suites, measures):
        if not wanted[name].suites or suite in wanted[name].suites:
            asked.append((suite, name))
    found: dict[str, dict[str, Measured]] = {suite: {} for suite in suites}
    missing = _unasked(wanted, suites)
    faults: list[Exception] = []
    with progress_bar(total=len(asked), what="measures") as progress:
        for suite, name in asked:
            try:
                found[suite][name] = measured_suite(measures[name], suites[suite], out, suite, chosen[name], again)
            except Exception as error:  # what the others say is to be kept, whatever this one raises
                missing[f"{suite}: {name}"] = " ".join(str(error).split()) or type(error).__name__
                # What the user cannot mend is raised once all else is written.
                if not isinstance(error, InputError | OSError):
                    faults.append(error)
            progress.update()
    return found, missing, faults


def _report(
    suites: Suites,
    out: Path,
    measures: Mapping[str, Measure],
    found: Mapping[str, Mapping[str, Measured]],
    metrics: dict[str, Any],
    page: bool,
) -> None:
    """Write predictions.jsonl, metrics.json with the figures, and the page."""
    lines = []
    chosen = dict(zip(measures, metrics["measures"], strict=True))
    metrics["suites"] = {}
    for suite, replies in suites.items():
        of_suite = {}
        for name, measured in found[suite].items():
            of_suite[name] = _of_measure(measures[name], replies, measured, chosen[name], metrics["cluster"])
        metrics["suites"][suite] = {"replies": len(replies), "measures": of_suite}
        for index, reply in enumerate(replies):
            said = {name: measured.rows[index] for name, measured in found[suite].items()}
            lines.append(prediction(suite, reply, said))
    write_predictions(out, lines)
    write_json(out / "metrics.json", metrics)
    if page:
        from empathy_lightning.evaluation.run_report import write_report

        write_report(out / "report.html", metrics, lines)


def _of_measure(
    measure: Measure, replies: Sequence[Utterance], measured: Measured, chosen: Mapping[str, Any], cluster: str
) -> dict[str, Any]:
    """What metrics.json holds of a measure."""
    return {
        "figures": figures_of(measure, replies, measured, cluster),
        "groups": groups_of(measure, replies, measured.rows, cluster),
        "made_from": made_of(measure, chosen),
        "lower_is_better": list(getattr(measure, "lower_is_better", ())),
        "ratios": {figure: list(pair) for figure, pair in getattr(measure, "ratios", {}).items()},
    }
