"""The results of a run as a page: tables, pictures, and the replies at both ends of a measure to listen to."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.evaluation import report
from empathy_lightning.evaluation.emotion_report import emotion_pictures
from empathy_lightning.evaluation.emotion_rows import side_by_side
from empathy_lightning.evaluation.figures import number_names, value_of

SHOWN = 3
"""Replies at either end of each measure that can be heard."""

LONGEST = 20.0
"""Seconds of a recording that the page holds."""


def write_report(path: Path, metrics: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        metrics: Content of metrics.json.
        predictions: Lines of predictions.jsonl.
    """
    sections = [("How it was made", report.table(_facts(metrics), ("", "")))]
    if judged := asked_rows(metrics):
        sections.append(("Who judged", report.table(judged, ("measure", "", ""))))
    if metrics["missing"]:
        sections.append(("Missing", report.table(list(metrics["missing"].items()), ("measure", "why"))))
    for suite, of_suite in metrics["suites"].items():
        lines = [line for line in predictions if line["suite"] == suite]
        sections.append((suite, report.table(figure_rows(of_suite["measures"]), _HEADS)))
        for name, found in of_suite["measures"].items():
            sections += _of_measure(suite, name, found, lines, path.parent)
    note = f"{len(predictions)} replies; suites: {', '.join(metrics['suites'])}."
    report.write_page(path, "Replies, measured", note, sections)


_HEADS = ("measure", "figure", "value", "95 % from", "to", "replies", "clusters")


def figure_rows(measures: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Measure, figure, value, interval, replies and clusters of every single figure."""
    rows: list[tuple[Any, ...]] = []
    for name, found in measures.items():
        for figure, held in found["figures"].items():
            value = value_of(held)
            if value is None:
                continue
            of = held if isinstance(held, dict) else {}
            spread = [of.get(key, "") for key in ("low", "high", "replies", "clusters")]
            # Counts are shown without decimals.
            shown = held if isinstance(held, int) else value
            rows.append((name, figure.replace("_", " "), shown, *spread))
    return rows


def _facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    bot = metrics["bot"] or {"checkpoint": "replies that were given"}
    facts = [(name.replace("_", " "), str(value)) for name, value in bot.items() if value is not None]
    for kind in ("manifests", "replies"):
        for name, of in metrics[kind].items():
            facts.append((f"{kind}: {name}", f"{of['path']}, {of['digest'][:12]}"))
    facts += [("intervals drawn over", metrics["cluster"])]
    return facts + [(f"version of {name}", number) for name, number in metrics["versions"].items()]


def asked_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Who was asked what, and with what of the user and the reply: measure, what is told, and the fact."""
    rows = []
    for suite, of_suite in metrics["suites"].items():
        for name, found in of_suite["measures"].items():
            told = _asked(found["figures"].get("asked") or {})
            rows += [(f"{suite}, {name}", what, fact) for what, fact in told]
    return rows


def _asked(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Judge, criterion and dates; of several, one after the other."""
    if "criterion" not in facts:
        rows = [(name, value) for name, value in facts.items() if isinstance(value, str)]
        for value in facts.values():
            if isinstance(value, dict):
                rows += _asked(value)
        return rows
    criterion = f"{facts['criterion']}, version {facts['version']}, prompt {facts['prompt_sha256'][:12]}"
    dates = facts["asked"] or {"first": "never", "last": "never"}
    return [
        ("judge", f"{facts['judge']} ({', '.join(facts['served']) or 'no version told'})"),
        ("criterion", f"{criterion}, given user {facts['user_given']}, reply {facts['reply_given']}"),
        ("asked", f"{dates['first']} to {dates['last']}"),
    ]


def _of_measure(
    suite: str, name: str, found: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], home: Path
) -> list[tuple[str, str]]:
    """Pictures, groups and players of a measure, as far as there are any."""
    rows = [line["measures"].get(name) for line in lines]
    sections = []
    if "confusion" in found["figures"]:
        heard = side_by_side(found["figures"]["emotions"], lines, rows)
        sections.append((f"{suite}, {name}: what was heard", emotion_pictures(found["figures"], heard)))
    pictures = [row["picture"] for row in filter(None, rows) if "picture" in row]
    if pictures:
        sections.append((f"{suite}, {name}", "".join(report.drawn(home / place) for place in pictures)))
    for kind, groups in found["groups"].items():
        sections.append((f"{suite}, {name}: by {kind}", _group_table(groups)))
    # The first number that is a figure too is what replies are ranked by.
    numbers = [figure for figure in number_names(rows) if figure in found["figures"]]
    if numbers:
        sections.append((f"{suite}, {name}: {numbers[0].replace('_', ' ')}", _extremes(numbers[0], found, lines, rows)))
    return sections


def _group_table(groups: Mapping[str, Mapping[str, Any]]) -> str:
    names: dict[str, None] = {}
    for figures in groups.values():
        names |= {figure: None for figure, held in figures.items() if value_of(held) is not None}
    rows = []
    for group, figures in groups.items():
        cells: list[Any] = [group]
        for name in names:
            value = value_of(figures.get(name))
            cells.append("" if value is None else value)
        rows.append(cells)
    return report.table(rows, ("", *(name.replace("_", " ") for name in names)))


def _extremes(
    figure: str,
    found: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any] | None],
) -> str:
    """The replies at both ends of a number of their rows, the better end first where there is one."""
    ranked = []
    for line, row in zip(lines, rows, strict=True):
        value = None if row is None else row.get(figure)
        if value is not None:
            ranked.append((value, line))
    upwards = figure in found["lower_is_better"]
    ranked.sort(key=lambda pair: pair[0], reverse=not upwards)
    # No reply stands at both ends.
    few = min(SHOWN, len(ranked) // 2)
    if few == 0:
        return "<p>too few replies to rank</p>"
    first = "".join(_talk(line, f"{figure} {value:g}") for value, line in ranked[:few])
    last = "".join(_talk(line, f"{figure} {value:g}") for value, line in ranked[-few:])
    names = ("lowest", "highest") if upwards else ("highest", "lowest")
    return f'<div class="side"><div><p>{names[0]}</p>{first}</div><div><p>{names[1]}</p>{last}</div></div>'


def _talk(line: Mapping[str, Any], score: str) -> str:
    """A question and its reply, to be read and heard."""
    said = html.escape(line["transcript"] or "")
    facts = html.escape(", ".join(filter(None, (line["corpus"], line["id"], line["emotion"], score))))
    question = _player(line["question_path"], "question", line["question_start"], line["question_end"])
    reply = _player(line["reply_path"], "reply")
    words = html.escape(line["reply"] or "")
    return f'<section class="talk"><p class="note">{facts}</p><p>{said}</p>{question}<p>{words}</p>{reply}</section>'


def _player(path: str | None, label: str, start: float = 0.0, end: float | None = None) -> str:
    if not path:
        return ""
    last = start + LONGEST
    if end is not None:
        last = min(end, last)
    try:
        return report.player(read(path, start, last), label)
    except AudioError:
        return f'<p class="note">{label} cannot be read</p>'
