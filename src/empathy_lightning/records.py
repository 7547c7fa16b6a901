"""The one validator of utterances: lines of JSON, rows of Parquet and records built in Python pass through it.

It goes from field to field, for all records at once; :mod:`.field_rules` says what each field may hold. Where a glance
at the whole column shows that all is right, no value is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

from empathy_lightning.errors import meant
from empathy_lightning.faults import Faults
from empathy_lightning.field_rules import DEFAULTS, FIELDS, REQUIRED, RULES, WrongValue, shown
from empathy_lightning.utterance import Utterance


def checked(columns: Mapping[str, Sequence[Any]], count: int, faults: Faults, first: int = 0) -> list[Utterance]:
    """Utterances from columns of raw values, each checked and in the form that a record holds.

    Args:
        columns: Values by field, of fields alone; None where a record has none. What is not there is nowhere given.
        count: Number of records.
        faults: Where what is wrong is counted; with any, no utterance comes back.
        first: Row of the first record, as the faults are to name it.

    Returns:
        The utterances in order, or an empty list if something is wrong with one of them.
    """
    found = Faults()
    clean: dict[str, Iterable[Any]] = {}
    for name in FIELDS:
        if name in columns:
            clean[name] = _column(name, columns[name], found, first)
        elif name in REQUIRED:
            for row in range(first, first + count):
                found.add(row, f"{name} is missing")
    if not found.count:
        _check_together(clean, found, first)
    if found.count:
        faults.join(found)
        return []
    # By position, field after field: nothing is made for a record but the record.
    values = [clean.get(name, repeat(DEFAULTS[name], count)) for name in FIELDS]
    return list(map(Utterance, *values))


def columns_of(utterances: Sequence[Utterance]) -> dict[str, list[Any]]:
    """The fields of utterances as columns."""
    return {name: [getattr(u, name) for u in utterances] for name in FIELDS}


def unknown_field(name: str) -> str:
    """What to say of a name that is no field of an utterance."""
    return f"unknown field {shown(name)}{meant(name, FIELDS)}"


def _column(name: str, values: Sequence[Any], faults: Faults, first: int) -> Sequence[Any]:
    glance, rule = RULES[name]
    default = DEFAULTS[name]
    if name in REQUIRED:
        default = None
    kinds = set(map(type, values))
    if default is not None and type(None) in kinds:
        values = [default if value is None else value for value in values]
        kinds.discard(type(None))
    if glance(name, values, kinds) and not (name in REQUIRED and type(None) in kinds):
        return values
    clean = []
    for row, value in enumerate(values, first):
        try:
            clean.append(_ruled(name, rule, value))
        except WrongValue as wrong:
            faults.add(row, f"{name} {wrong}")
    return clean


def _ruled(name: str, rule: Callable[[str, Any], Any], value: Any) -> Any:
    if value is not None:
        return rule(name, value)
    if name in REQUIRED:
        raise WrongValue("is missing")
    return None


def _check_together(columns: Mapping[str, Iterable[Any]], faults: Faults, first: int) -> None:
    """What only two fields together can show: segments that end before they begin, prompts without speech."""
    for start, end in (("start", "end"), ("emotion_start", "emotion_end")):
        pairs = zip(columns.get(start, repeat(0.0)), columns.get(end, ()), strict=False)
        for row, (begin, finish) in enumerate(pairs, first):
            if finish is not None and finish <= begin:
                faults.add(row, f"{end} {finish:g} is not after {start} {begin:g}, so the segment is empty")
    if "prompt" not in columns and "system" not in columns:
        return
    nothing: Iterable[Any] = repeat(None)
    asked = zip(columns.get("prompt", nothing), columns.get("system", nothing), strict=False)
    for row, (prompt, system) in enumerate(asked, first):
        if prompt is None and system is not None:
            faults.add(row, "system is given without a prompt, which it needs")
        elif prompt is not None and "{speech}" not in prompt:
            faults.add(row, "prompt has no {speech} slot")
