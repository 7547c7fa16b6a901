"""Make a paper's table: let each of its systems answer each suite, measure, and set it beside what was published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from empathy_lightning.data.left_out import MOST
from empathy_lightning.data.manifest import read_manifest, write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.answering import Answering
from empathy_lightning.evaluation.compared_pairs import compare_pair
from empathy_lightning.evaluation.figures import value_of
from empathy_lightning.evaluation.measure_choice import Choice, wants
from empathy_lightning.evaluation.paper_table import PaperFigure, PaperSystem, PaperTable
from empathy_lightning.evaluation.result_folder import Results, read_results
from empathy_lightning.evaluation.result_tables import shown
from empathy_lightning.evaluation.run import evaluate_run
from empathy_lightning.evaluation.run_replies import Source
from empathy_lightning.papers import PaperPrompts, paper_named
from empathy_lightning.preparation.response_selection import ResponseSelection
from empathy_lightning.preparation.responses import prepare_responses
from empathy_lightning.preparation.transcripts import prepare_transcripts
from empathy_lightning.prompts import SPEECH_AND_EMOTION, SPEECH_ONLY, Prompt


def run_systems(
    table: PaperTable,
    out: Path,
    decoding: Decoding,
    trust: Sequence[str] = (),
    only: Sequence[str] = (),
    pages: bool = False,
    max_left_out: float = MOST,
) -> dict[str, str]:
    """Run every system that can be run on every suite, each into a folder below ``out``; what is done goes fast.

    Args:
        table: Which systems, suites and measures.
        out: Folder for all.
        decoding: How replies are chosen; without a longest reply, the paper's.
        trust: Packages whose classes folders may name.
        only: Names of systems; none takes all.
        pages: Write each run's report.html too.
        max_left_out: Share of a suite's questions that may be unreadable or without a reply.

    Returns:
        Why cells are missing, by system, suite and perhaps measure.
    """
    missing: dict[str, str] = {}
    running = [name for name, system in table.systems.items() if system.is_run]
    if only:
        running = [name for name in running if name in only]
    jobs = list(product(running, table.suites))
    for number, (name, suite) in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {name}, {suite}", flush=True)
        try:
            lacking = _run(table, name, suite, folder_of(out, name, suite), decoding, trust, pages, max_left_out)
        except InputError as error:
            # One system that is not there leaves its cells empty.
            missing[f"{name}, {suite}"] = str(error)
            continue
        missing |= {f"{name}, {measure}": why for measure, why in lacking.items()}
    return missing


def folder_of(out: Path, system: str, suite: str) -> Path:
    """Where the results lie: the system's name and the suite's, with what is fit for a folder."""
    return out / _fit_for_a_folder(system) / _fit_for_a_folder(suite)


def _fit_for_a_folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_").lower()


def _run(
    table: PaperTable,
    name: str,
    suite: str,
    folder: Path,
    decoding: Decoding,
    trust: Sequence[str],
    pages: bool,
    max_left_out: float,
) -> dict[str, str]:
    system = table.systems[name].of(suite)
    measures = _measures_of(table, system, suite)
    if not measures:
        return {}
    wordings = paper_named(table.paper) if table.paper is not None else None
    if wordings is not None and decoding.max_new_tokens is None:
        decoding = replace(decoding, max_new_tokens=wordings.max_new_tokens)
    manifest = _questions(suite, table.suites[suite], table.split, system, folder)
    if system.checkpoint is not None:
        prompt = _given(system)
        if prompt is None and wordings is not None:
            prompt = wordings.spoken
        bot = Path(system.checkpoint)
        answering = Answering(
            bot, prompt, decoding, system.speech, slots=system.slots, trust=tuple(trust), max_left_out=max_left_out
        )
        source = Source({suite: manifest}, {}, answering, "all")
    elif system.replies is not None:
        source = Source({suite: manifest}, {suite: Path(system.replies)}, None, "all", max_left_out)
    elif system.language_model is not None:
        written = _written(manifest, system, wordings, decoding, folder)
        source = Source({}, {suite: written}, split="all")
    else:
        source = Source({}, {suite: manifest}, split="all")
    return evaluate_run(source, folder, measures, page=pages)


def _measures_of(table: PaperTable, system: PaperSystem, suite: str) -> list[Choice]:
    """Those that are for the suite; without those that only a bot can be asked where the system is none."""
    found = []
    for choice in table.measures:
        is_for_suite = not choice.suites or suite in choice.suites
        if is_for_suite and (system.checkpoint or not wants(choice, "checkpoint")):
            found.append(choice)
    return found


def _questions(suite: str, file: Path, split: str, system: PaperSystem, folder: Path) -> Path:
    """The manifest that a system is asked; every utterance is of the suite."""
    asked = folder / "asked.jsonl"
    # A manifest may name other suites, or none: results are looked for under the table's name.
    write_manifest(asked, [replace(u, suite=suite) for u in read_chosen(file, split, audio=False)])
    if system.transcripts is None:
        return asked
    wordless, heard = folder / "wordless.jsonl", folder / "heard.jsonl"
    rows = []
    # Measures want the true words again, which go along as a label.
    for u in read_manifest(asked):
        rows.append(replace(u, transcript=None, raw_labels={**u.raw_labels, _TRUE: u.transcript or ""}))
    write_manifest(wordless, rows)
    return prepare_transcripts(wordless, heard, system.transcripts)


_TRUE = "true_transcript"


def _written(
    manifest: Path, system: PaperSystem, wordings: PaperPrompts | None, decoding: Decoding, folder: Path
) -> Path:
    """What a language model says to the transcripts, as a manifest with the true transcripts."""
    prompt = _given(system)
    if prompt is None and wordings is not None:
        prompt = wordings.labelled if system.labelled else wordings.unlabelled
    if prompt is None:
        prompt = Prompt(SPEECH_AND_EMOTION if system.labelled else SPEECH_ONLY)
    how: dict[str, Any] = {
        "temperature": decoding.temperature,
        "seed": decoding.seed,
        "max_new_tokens": decoding.longest,
    }
    raw, replies = folder / "written.jsonl", folder / "replies.jsonl"
    prepare_responses(manifest, raw, system.language_model or "", prompt, selection=ResponseSelection(()), **how)
    write_manifest(replies, [_with_true_words(u) for u in read_manifest(raw)])
    return replies


def _with_true_words(u: Any) -> Any:
    labels = dict(u.raw_labels)
    true = labels.pop(_TRUE, None)
    return u if true is None else replace(u, transcript=true, raw_labels=labels)


def _given(system: PaperSystem) -> Prompt | None:
    if system.prompt is None:
        return None
    return Prompt(system.prompt["user"], system.prompt.get("system"))


Found = Mapping[tuple[str, str], Results]
"""Results by system and suite."""


def table_rows(table: PaperTable, out: Path) -> tuple[list[str], list[list[str]]]:
    """Head and rows: for each figure and suite ours, and what was published.

    Args:
        table: What is shown.
        out: Folder of the systems' results; cells of those that are not there stay empty.
    """
    results = {}
    for name, suite in product(table.systems, table.suites):
        folder = folder_of(out, name, suite)
        if (folder / "metrics.json").is_file():
            results[name, suite] = read_results(folder)
    head = ["figure", "suite", "", *table.systems]
    if table.compared:
        head.append("p")
    rows = []
    for figure in table.figures:
        for suite in figure.suites or table.suites:
            own = [_cell(results.get((name, suite)), suite, figure) for name in table.systems]
            printed = [table.published.get((figure.title, suite, name), "") for name in table.systems]
            if table.compared:
                own.append(_p(table.compared, results, suite, figure))
                printed.append(table.published.get((figure.title, suite, "p"), ""))
            rows.append([figure.title, suite, "ours", *own])
            if any(printed):
                rows.append([figure.title, suite, "published", *printed])
    return head, rows


def _held(results: Results | None, suite: str, measure: str) -> Mapping[str, Any] | None:
    """What a run holds of a measure."""
    suites = {} if results is None else results.metrics["suites"]
    held: Mapping[str, Any] | None = suites.get(suite, {"measures": {}})["measures"].get(measure)
    return held


def _cell(results: Results | None, suite: str, figure: PaperFigure) -> str:
    measure, _, name = figure.figure.partition("/")
    held = _held(results, suite, measure)
    if held is None:
        return ""
    if figure.mean_of is None:
        return shown(held["figures"].get(name), figure.spread)
    groups = held["groups"].get(figure.mean_of, {})
    values = [value_of(figures.get(name)) for figures in groups.values()]
    known = [value for value in values if value is not None]
    # A single group has no rows of its own.
    return f"{sum(known) / len(known):.3f}" if known else shown(held["figures"].get(name), "none")


def _p(compared: Sequence[str], results: Found, suite: str, figure: PaperFigure) -> str:
    """P of the difference of the two systems that are compared."""
    measure, _, name = figure.figure.partition("/")
    both = [results.get((system, suite)) for system in compared]
    if figure.mean_of is not None or any(_held(one, suite, measure) is None for one in both):
        return ""
    own, other = both
    assert own is not None and other is not None
    pair = compare_pair(own, other, suite, measure, name, "wilcoxon")
    return "" if pair is None else f"{pair.p:.3f} ({pair.test})"
