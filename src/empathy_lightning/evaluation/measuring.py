"""What one measure says of the replies of one suite, kept on disk as soon as it is known."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.digests import digest, recordings_digest, utterances_digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.made_from import recordings_of
from empathy_lightning.evaluation.measured import Measure, Measured
from empathy_lightning.evaluation.result_folder import keep, kept
from empathy_lightning.utterance import Utterance

Arguments = Mapping[str, Any]


def made_of(measure: Measure, chosen: Arguments) -> dict[str, Any]:
    """What decides the figures of a measure: class, arguments and what stands behind them.

    Args:
        measure: The measure.
        chosen: ``class_path`` and ``init_args``.
    """
    incidental = getattr(measure, "incidental", ())
    arguments = {name: value for name, value in chosen["init_args"].items() if name not in incidental}
    return {"class_path": chosen["class_path"], "init_args": arguments, **getattr(measure, "made_from", dict)()}


def measured_suite(
    measure: Measure, replies: Sequence[Utterance], out: Path, suite: str, chosen: Arguments, again: bool
) -> Measured:
    """What a measure says of a suite, now or by an earlier run.

    Args:
        measure: The measure.
        replies: Of the suite.
        out: Folder of the run.
        suite: Its name.
        chosen: ``class_path`` and ``init_args`` of the measure.
        again: Ask anew.

    Raises:
        InputError: If no reply has what the measure needs, or it gives other rows than it should.
    """
    # A suite may have any name, and a file may not.
    path = out / "measured" / "{}.{}.json".format(measure.name, re.sub(r"[^\w-]", "_", suite)[:80])
    made_from = {"measure": made_of(measure, chosen), "code": _code(measure), "replies": _digest(replies, out)}
    content = None if again else kept(path, made_from)
    if content is None:
        if again:
            _remove_parts(path)
        measured = _rows(measure, replies, path, made_from)
        content = keep(path, made_from, measured.rows, measured.figures)
        # Only now: what is kept as a whole is not needed in parts.
        _remove_parts(path)
    return Measured(content["rows"], content["figures"])


def _code(measure: Measure) -> str | None:
    """Of the file that holds the class: one that was changed measures anew."""
    module = sys.modules.get(type(measure).__module__)
    file = getattr(module, "__file__", None)
    return None if file is None else digest(file)


def _digest(replies: Sequence[Utterance], home: Path) -> dict[str, str]:
    heard: list[str] = []
    for reply in replies:
        heard += recordings_of(reply)
        if reply.response_path:
            heard.append(reply.response_path)
    return {"said": utterances_digest(replies, home), "recordings": recordings_digest(heard, home)}


def _rows(measure: Measure, replies: Sequence[Utterance], path: Path, made_from: Arguments) -> Measured:
    """Measure the replies that have what the measure needs, and count the others."""
    there = [index for index, reply in enumerate(replies) if _has_all(reply, measure.needs)]
    if not there:
        raise InputError(f"no reply has {', '.join(measure.needs)}, which it needs")
    few = [replies[index] for index in there]
    measured = _in_parts(measure, few, path, made_from) if hasattr(measure, "part") else _asked(measure, few)
    rows: list[dict[str, Any] | None] = [None] * len(replies)
    for index, row in zip(there, measured.rows, strict=True):
        rows[index] = row
    return Measured(rows, {**measured.figures, **_lacking(replies, measure.needs)})


def _has_all(reply: Utterance, names: Sequence[str]) -> bool:
    return all(getattr(reply, name) for name in names)


def _asked(measure: Measure, replies: Sequence[Utterance]) -> Measured:
    measured = measure(replies)
    if len(measured.rows) != len(replies):
        raise InputError(f"{measure.name} gave {len(measured.rows)} rows for {len(replies)} replies: mend the measure")
    return measured


def _in_parts(measure: Any, replies: Sequence[Utterance], path: Path, made_from: Arguments) -> Measured:
    """Measure some replies at a time, and keep what was said of them, for a run that is stopped."""
    rows: list[dict[str, Any] | None] = []
    for start in range(0, len(replies), measure.part):
        part = path.with_suffix(f".part-{start // measure.part:05d}.json")
        content = kept(part, made_from)
        if content is None:
            content = keep(part, made_from, _asked(measure, replies[start : start + measure.part]).rows, {})
        rows += content["rows"]
    return Measured(rows, dict(measure.figures(replies, rows)))


def _remove_parts(path: Path) -> None:
    for part in path.parent.glob(f"{path.stem}.part-*.json"):
        part.unlink()


def _lacking(replies: Sequence[Utterance], needs: Sequence[str]) -> dict[str, int]:
    """How many replies lack each field that is needed, of those fields that are missing somewhere."""
    counts = {}
    for name in needs:
        lacking = sum(not getattr(reply, name) for reply in replies)
        if lacking:
            counts[f"without_{name}"] = lacking
    return counts
