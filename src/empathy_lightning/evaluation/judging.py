"""A judge's scores of a manifest of replies, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measure, Measured
from empathy_lightning.files import check_target, write_json
from empathy_lightning.jobs import digest
from empathy_lightning.utterance import Utterance


def evaluate_measure(replies: Path, measure: Measure, split: str = "test", out: Path | None = None) -> Measured:
    """Measure the replies of a manifest and print the figures.

    Args:
        replies: Manifest whose responses are the replies.
        measure: Such as :class:`.measures.judged.Judged`.
        split: Which to measure, or ``all``.
        out: JSON file for the figures and each reply's row.

    Raises:
        InputError: If a file cannot be used, or the measure refuses.
    """
    check_target(out, [replies])
    utterances = [u for u in read_chosen(replies, split, audio=False) if u.response is not None]
    if not utterances:
        raise InputError(f"{replies} has no responses in split {split}; --split all takes every one")
    measured = measure(utterances)
    print(table(measured.figures))
    if out is not None:
        made_from = {"replies": digest(replies), "split": split}
        written = {"of": str(replies), "made_from": made_from, **measured.figures}
        write_json(out, written | {"scores": _rows(utterances, measured)})
    return measured


def _rows(utterances: Sequence[Utterance], measured: Measured) -> list[dict[str, Any]]:
    rows = []
    for utterance, row in zip(utterances, measured.rows, strict=True):
        known = {"suite": utterance.suite, "ability": utterance.ability}
        named = {name: value for name, value in known.items() if value is not None}
        rows.append({"corpus": utterance.corpus, "id": utterance.id, **named, **(row or {})})
    return rows


def table(figures: dict[str, Any]) -> str:
    """The figures for the screen: numbers, means with their intervals, and what was asked."""
    lines = []
    for name, value in figures.items():
        shown = name.replace("_", " ")
        if name == "asked":
            lines += _asked(value)
        elif isinstance(value, dict) and "value" in value:
            lines.append(f"{shown:<26}{value['value']:>9.3f}  ({value['low']:.3f} to {value['high']:.3f})")
        elif isinstance(value, dict):
            lines += [f"{f'{shown} {key}':<26}{number:>9.3f}" for key, number in value.items()]
        else:
            lines.append(f"{shown:<26}{value:>9.3f}" if isinstance(value, float) else f"{shown:<26}{value:>9}")
    return "\n".join(lines)


def _asked(facts: dict[str, Any]) -> list[str]:
    """Who was asked what, with what of the user and the reply; of several, one after the other."""
    if "judge" not in facts:
        deeper = [value for value in facts.values() if isinstance(value, dict)]
        return [line for value in deeper for line in _asked(value)]
    criterion = f"{facts['criterion']}, version {facts['version']}, prompt {facts['prompt_sha256'][:12]}"
    dates = facts["asked"] or {"first": "never", "last": "never"}
    return [
        f"judge      {facts['judge']} ({', '.join(facts['served']) or 'no version told'})",
        f"criterion  {criterion}, given user {facts['user_given']}, reply {facts['reply_given']}",
        f"asked      {dates['first']} to {dates['last']}",
    ]
