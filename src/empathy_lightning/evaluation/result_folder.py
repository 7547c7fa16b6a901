"""The folder of a run: predictions.jsonl, metrics.json, report.html, the replies, and what each measure said so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empathy_lightning.data.manifest import PATHS, absolute
from empathy_lightning.errors import InputError
from empathy_lightning.files import write_json, write_text
from empathy_lightning.utterance import RATINGS, Utterance

PREDICTIONS = "predictions.jsonl"
"""Name of the file with a line for each reply."""

_FACTS = (
    "corpus", "id", "ability", "language", "speaker", "session", "emotion", *RATINGS, "transcript", "references",
    "raw_labels", "emotion_path", "emotion_start", "emotion_end",
)  # fmt: skip
_RECORDINGS = ("question_path", "reply_path", "emotion_path")
_RENAMED = {
    "question_path": "path",
    "question_start": "start",
    "question_end": "end",
    "reply": "response",
    "cut": "response_cut",
    "reply_path": "response_path",
}
"""Fields of an utterance that are called otherwise in predictions.jsonl."""


def prediction(suite: str, reply: Utterance, measured: Mapping[str, Any]) -> dict[str, Any]:
    """A line of predictions.jsonl.

    Args:
        suite: Of the question.
        reply: Utterance with its reply.
        measured: What each measure says of it, by name; None where it says nothing.
    """
    facts = {name: getattr(reply, name) for name in _FACTS}
    renamed = {name: getattr(reply, field) for name, field in _RENAMED.items()}
    return {"suite": suite, **facts, **renamed, "measures": dict(measured)}


def write_predictions(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write predictions.jsonl, whole or not at all; recordings below the folder are named from there."""
    home = folder.absolute()
    lines = []
    for row in rows:
        places = {name: _seen_from(home, row[name]) for name in _RECORDINGS}
        lines.append(json.dumps({**row, **places}, ensure_ascii=False) + "\n")
    write_text(folder / PREDICTIONS, "".join(lines))


def _seen_from(home: Path, name: str | None) -> str | None:
    if name is None or "://" in name:
        return name
    full = Path(name).absolute()
    place = full.relative_to(home) if full.is_relative_to(home) else full
    return str(place)


def question_of(line: Mapping[str, Any]) -> tuple[str, str, str]:
    """Suite, corpus and id of a line of predictions.jsonl."""
    return line["suite"], line["corpus"], line["id"]


def replies_in(file: Path) -> list[Utterance]:
    """The replies of a predictions.jsonl, to be measured again.

    Raises:
        InputError: If a line is none of it, or there is none.
    """
    home = f"{file.parent}/"
    found = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            values = {name: line[name] for name in _FACTS}
            values |= {field: line[name] for name, field in _RENAMED.items()}
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{file}, line {number}: is no prediction; run `evaluate run` again") from None
        for field in PATHS:
            if values[field] is not None:
                values[field] = absolute(home, values[field])
        found.append(Utterance(suite=line["suite"], **values))
    if not found:
        raise InputError(f"{file} holds no predictions: run `evaluate run` again")
    return found


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        name: Of its folder.
        metrics: Content of metrics.json.
        predictions: Lines of predictions.jsonl.
    """

    name: str
    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]

    def rows(self, suite: str, measure: str) -> dict[tuple[str, str], dict[str, Any]]:
        """What a measure says of each reply of a suite, by corpus and id; those of which it says nothing left out."""
        found = {}
        for line in self.predictions:
            said = line["measures"].get(measure)
            if line["suite"] == suite and said is not None:
                found[line["corpus"], line["id"]] = said
        return found


def read_results(folder: Path) -> Results:
    """Read a folder of ``evaluate run``.

    Raises:
        InputError: If it is none, or damaged.
    """
    path, lines = folder / "metrics.json", folder / PREDICTIONS
    for file in (path, lines):
        if not file.is_file():
            raise InputError(f"{folder} holds no results, {file.name} is missing: make them with `evaluate run`")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        predictions = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        seen = [question_of(line) for line in predictions]
        measures = [line["measures"].items() for line in predictions]
        suites = metrics["suites"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is damaged ({type(error).__name__}): run `evaluate run` again") from None
    if len(set(seen)) < len(seen):
        twice = next(key for key in seen if seen.count(key) > 1)
        raise InputError(f"{lines} holds {'/'.join(twice)} twice: run `evaluate run` again")
    if not predictions or not measures or not isinstance(suites, dict):
        raise InputError(f"{folder} holds no predictions: run `evaluate run` again")
    return Results(folder.resolve().name, metrics, predictions)


def kept(path: Path, made_from: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a measure said before of the same replies with the same arguments; None where that is not there."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # As it reads from a file, where tuples are lists.
    wanted = json.loads(json.dumps(made_from))
    return content if isinstance(content, dict) and content.get("made_from") == wanted else None


def keep(path: Path, made_from: Mapping[str, Any], rows: Sequence[Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Write what a measure said, whole or not at all."""
    content = {"made_from": dict(made_from), "rows": list(rows), "figures": dict(figures)}
    write_json(path, content)
    return content
