"""The one validator of utterances: lines of JSON, rows of Parquet and records built in Python pass through it.

It goes from field to field, for all records at once. Each field has a rule for one value, which returns
the value as the record holds it or says what is wrong. A glance at the whole column, at the speed of C,
says whether the rule could change or refuse anything; only then is it applied value by value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain, repeat
from math import isfinite
from typing import Any, NamedTuple

from empathy_lightning.emotion_words import SPELLINGS, emotion_named, normalised
from empathy_lightning.errors import meant
from empathy_lightning.faults import Faults, cut
from empathy_lightning.utterance import RATINGS, Utterance

FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Utterance))
"""Names of an utterance's fields, in their order."""

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("training", "tr"),
    "validation": ("validate", "valid", "val", "dev", "development", "devel"),
    "test": ("testing", "eval", "evaluation", "test1"),
    "test2": (),
    "test3": (),
}
"""Names of splits, each with the other spellings that are read as it, in any case."""

_SPLIT_OF = {spelling: name for name, others in SPLITS.items() for spelling in (name, *others)}
_REQUIRED = ("id", "corpus", "path")
_NUMBERED = ("id", "speaker", "session")
_PATHS = ("path", "emotion_path", "response_path")
_NEVER_EMPTY = {*_REQUIRED, *_PATHS, "speaker", "session", "split", "emotion", "language", "emotion_id"}
_TIMES = ("start", "end", "duration", "emotion_start", "emotion_end")
_LARGEST_UNIT = 2**31 - 1
_ROUNDED = 0.02 + 1e-9
"""How far the sum of shares may lie from 1: three thirds of two decimals, or six sixths."""
_EXACT = 1e-9


class _Wrong(ValueError):
    """What is wrong with a value, to be said after the field's name."""


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
        elif name in _REQUIRED:
            for row in range(first, first + count):
                found.add(row, f"{name} is missing")
    if not found.count:
        _check_together(clean, found, first)
    if found.count:
        faults.join(found)
        return []
    return list(map(Utterance, *(clean.get(name, repeat(_DEFAULTS[name], count)) for name in FIELDS)))


def columns_of(utterances: Sequence[Utterance]) -> dict[str, list[Any]]:
    """The fields of utterances as columns."""
    return {name: [getattr(u, name) for u in utterances] for name in FIELDS}


def unknown_field(name: str) -> str:
    """What to say of a name that is no field of an utterance."""
    return f"unknown field {_shown(name)}{meant(name, FIELDS)}"


def split_named(word: str) -> str | None:
    """The split of which a word is a spelling; None if it is none."""
    return _SPLIT_OF.get(normalised(word))


def doubled(utterances: Sequence[Utterance]) -> list[tuple[int, int]]:
    """Places of utterances whose corpus and id were there before, each with the place of the first one."""
    if len({u.id for u in utterances}) == len(utterances):
        return []
    seen: dict[tuple[str, str], int] = {}
    again = []
    for index, utterance in enumerate(utterances):
        first = seen.setdefault((utterance.corpus, utterance.id), index)
        if first != index:
            again.append((index, first))
    return again


def _column(name: str, values: Sequence[Any], faults: Faults, first: int) -> Sequence[Any]:
    glance, rule = _RULES[name]
    default = _DEFAULTS[name]
    if name in _REQUIRED:
        default = None
    kinds = set(map(type, values))
    if default is not None and type(None) in kinds:
        values = [default if value is None else value for value in values]
        kinds.discard(type(None))
    if glance(name, values, kinds) and not (name in _REQUIRED and type(None) in kinds):
        return values
    clean = []
    for row, value in enumerate(values, first):
        try:
            clean.append(_ruled(name, rule, value))
        except _Wrong as wrong:
            faults.add(row, f"{name} {wrong}")
    return clean


def _ruled(name: str, rule: Callable[[str, Any], Any], value: Any) -> Any:
    if value is not None:
        return rule(name, value)
    if name in _REQUIRED:
        raise _Wrong("is missing")
    return None


def _text(name: str, value: Any) -> str:
    if name in _NUMBERED and type(value) is int:
        value = _shown(value)
    if type(value) is not str:
        raise _Wrong(f"is {_shown(value)}, not a text")
    if not value and name in _NEVER_EMPTY:
        raise _Wrong("is empty" + ("" if name in _REQUIRED else ": leave it out"))
    if name in _PATHS and "\0" in value:
        raise _Wrong("holds a null character")
    if not _writable(value):
        raise _Wrong("holds half a character (an unpaired surrogate)")
    return value


def _texts_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {str, type(None)}:
        return False
    if name in _NEVER_EMPTY and "" in values:
        return False
    joined = "".join(filter(None, values))
    return _writable(joined) and not (name in _PATHS and "\0" in joined)


def _writable(text: str) -> bool:
    # Bytes that are not UTF-8, such as those of file names, are kept as escapes and written back.
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _emotion(name: str, value: Any) -> str:
    word = _text(name, value)
    return emotion_named(word) or word


def _emotions_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    return kinds <= {str, type(None)} and set(values) <= {*SPELLINGS, None}


def _split(name: str, value: Any) -> str:
    word = _text(name, value)
    split = split_named(word)
    if split is None:
        raise _Wrong(f"is {_shown(word)}: give {', '.join(SPLITS)} or a spelling of them such as dev, val, eval")
    return split


def _splits_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    return kinds <= {str, type(None)} and set(values) <= {*SPLITS, None}


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise _Wrong(f"is {_shown(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise _Wrong(f"is {_shown(value)}, not a finite number: leave it out where it is not known")
    if name in RATINGS and not 0 <= number <= 1:
        raise _Wrong(f"is {_shown(value)}, outside 0..1")
    if number < 0:
        raise _Wrong(f"is {_shown(value)} s, below 0")
    return number


def _numbers_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {float, type(None)}:
        return False
    given = values if type(None) not in kinds else [value for value in values if value is not None]
    if not all(map(isfinite, given)):
        return False
    return not given or (min(given) >= 0 and (name not in RATINGS or max(given) <= 1))


def _flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _Wrong(f"is {_shown(value)}, not true or false")
    return value


def _flags_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    return kinds <= {bool}


def _units(name: str, value: Any) -> list[int]:
    if type(value) is not list or not all(type(unit) is int and 0 <= unit <= _LARGEST_UNIT for unit in value):
        raise _Wrong(f"are {_shown(value)}, not a list of whole numbers from 0")
    return value


def _units_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {list, type(None)}:
        return False
    given = [value for value in values if value]
    if not given:
        return True
    if not set(map(type, chain.from_iterable(given))) <= {int}:
        return False
    return min(chain.from_iterable(given)) >= 0 and max(chain.from_iterable(given)) <= _LARGEST_UNIT


def _labels(name: str, value: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise _Wrong(f"are {_shown(value)}, not an object of texts")
    given = {key: label for key, label in value.items() if label is not None}
    for key, label in given.items():
        if type(key) is not str or type(label) is not str:
            raise _Wrong(f"hold {_shown(key)}: {_shown(label)}, not a text")
        if not _writable(key + label):
            raise _Wrong("hold half a character (an unpaired surrogate)")
    return given


def _labels_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {dict}:
        return False
    # Equal labels of a large manifest are one object.
    distinct = {id(value): value for value in values if value}.values()
    parts = list(chain.from_iterable(chain.from_iterable(value.items() for value in distinct)))
    return set(map(type, parts)) <= {str} and _writable("".join(parts))


def _votes(name: str, value: Any) -> dict[str, float]:
    if type(value) is not dict:
        raise _Wrong(f"are {_shown(value)}, not an object of shares")
    shares: dict[str, float] = {}
    for key, share in value.items():
        if share is None:
            continue
        if type(key) is not str or not key or not _writable(key):
            raise _Wrong(f"name the emotion {_shown(key)}")
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise _Wrong(f"hold {_shown(key)}: {_shown(share)}, not a share from 0 to 1")
        emotion = emotion_named(key) or key
        shares[emotion] = shares.get(emotion, 0.0) + share
    total = sum(shares.values())
    if shares and abs(total - 1) > _ROUNDED:
        raise _Wrong(f"sum to {total:g}, not to 1")
    if abs(total - 1) <= _EXACT:
        return shares
    return {emotion: share / total for emotion, share in shares.items()}


def _votes_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {dict}:
        return False
    for value in {id(value): value for value in values if value}.values():
        if not value.keys() <= SPELLINGS.keys() or not set(map(type, value.values())) <= {float}:
            return False
        if min(value.values()) < 0 or not abs(sum(value.values()) - 1) <= _EXACT:
            return False
    return True


def _check_together(columns: Mapping[str, Iterable[Any]], faults: Faults, first: int) -> None:
    """What only two fields together can show: segments that end before they begin, prompts without speech."""
    for start, end in (("start", "end"), ("emotion_start", "emotion_end")):
        pairs = zip(columns.get(start, repeat(0.0)), columns.get(end, ()), strict=False)
        for row, (begin, finish) in enumerate(pairs, first):
            if finish is not None and finish <= begin:
                faults.add(row, f"{end} {finish:g} is not after {start} {begin:g}, so the segment is empty")
    prompts, systems = columns.get("prompt"), columns.get("system")
    if prompts is None and systems is None:
        return
    nothing: Iterable[Any] = repeat(None)
    asked = zip(nothing if prompts is None else prompts, nothing if systems is None else systems, strict=False)
    for row, (prompt, system) in enumerate(asked, first):
        if prompt is None and system is not None:
            faults.add(row, "system is given without a prompt, which it needs")
        elif prompt is not None and "{speech}" not in prompt:
            faults.add(row, "prompt has no {speech} slot")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return cut(text.encode("utf-8", "backslashreplace").decode(), 40)


class _Rule(NamedTuple):
    glance: Callable[[str, Sequence[Any], set[type]], bool]
    rule: Callable[[str, Any], Any]


_DEFAULTS = {name: getattr(Utterance("", "", ""), name) for name in FIELDS}
_RULES = dict.fromkeys(FIELDS, _Rule(_texts_are_right, _text))
_RULES |= dict.fromkeys((*_TIMES, *RATINGS), _Rule(_numbers_are_right, _number))
_RULES |= {
    "emotion": _Rule(_emotions_are_right, _emotion),
    "split": _Rule(_splits_are_right, _split),
    "units": _Rule(_units_are_right, _units),
    "response_cut": _Rule(_flags_are_right, _flag),
    "raw_labels": _Rule(_labels_are_right, _labels),
    "emotion_votes": _Rule(_votes_are_right, _votes),
}
