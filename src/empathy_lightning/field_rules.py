"""What each field of an utterance may hold: a rule for one value, and a glance at many.

A rule returns the value as a record holds it, or says what is wrong with it. A glance at a whole column, at the speed
of C, says whether its rule could change or refuse anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple

from empathy_lightning.emotion_words import SPELLINGS, emotion_named
from empathy_lightning.faults import cut
from empathy_lightning.splits import SPLITS, split_named
from empathy_lightning.utterance import RATINGS, Utterance

FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Utterance))
"""Names of an utterance's fields, in their order."""

REQUIRED = ("id", "corpus", "path")
_NUMBERED = ("id", "speaker", "session")
_PATHS = ("path", "emotion_path", "response_path")
_NEVER_EMPTY = {
    *REQUIRED, *_PATHS, "speaker", "session", "split", "emotion", "language", "emotion_id", "suite", "ability",
}  # fmt: skip
_TIMES = ("start", "end", "duration", "emotion_start", "emotion_end")
_LARGEST_UNIT = 2**31 - 1
_ROUNDED = 0.02 + 1e-9
"""How far the sum of shares may lie from 1: three thirds of two decimals, or six sixths."""
_EXACT = 1e-9


class WrongValue(ValueError):
    """What is wrong with a value, to be said after the field's name."""


def _text(name: str, value: Any) -> str:
    # By type itself, here and below, since True is an instance of int.
    if name in _NUMBERED and type(value) is int:
        value = shown(value)
    if type(value) is not str:
        raise WrongValue(f"is {shown(value)}, not a text")
    if not value and name in _NEVER_EMPTY:
        raise WrongValue("is empty" if name in REQUIRED else "is empty: leave it out")
    if name in _PATHS and "\0" in value:
        raise WrongValue("holds a null character")
    if not _writable(value):
        raise WrongValue("holds half a character (an unpaired surrogate)")
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
        raise WrongValue(f"is {shown(word)}: give {', '.join(SPLITS)} or a spelling of them such as dev, val, eval")
    return split


def _splits_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    return kinds <= {str, type(None)} and set(values) <= {*SPLITS, None}


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise WrongValue(f"is {shown(value)}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise WrongValue(f"is {shown(value)}, not a finite number: leave it out where it is not known")
    if name in RATINGS and not 0 <= number <= 1:
        raise WrongValue(f"is {shown(value)}, outside 0..1")
    if number < 0:
        raise WrongValue(f"is {shown(value)} s, below 0")
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
        raise WrongValue(f"is {shown(value)}, not true or false")
    return value


def _flags_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    return kinds <= {bool}


def _units(name: str, value: Any) -> list[int]:
    if type(value) is not list or not all(type(unit) is int and 0 <= unit <= _LARGEST_UNIT for unit in value):
        raise WrongValue(f"are {shown(value)}, not a list of whole numbers from 0")
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


def _references(name: str, value: Any) -> list[str]:
    if type(value) is not list or not all(type(text) is str for text in value):
        raise WrongValue(f"are {shown(value)}, not a list of texts")
    if not all(map(_writable, value)):
        raise WrongValue("hold half a character (an unpaired surrogate)")
    return value


def _references_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {list}:
        return False
    texts = list(chain.from_iterable(values))
    return set(map(type, texts)) <= {str} and _writable("".join(texts))


def _labels(name: str, value: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise WrongValue(f"are {shown(value)}, not an object of texts")
    given = {key: label for key, label in value.items() if label is not None}
    for key, label in given.items():
        if type(key) is not str or type(label) is not str:
            raise WrongValue(f"hold {shown(key)}: {shown(label)}, not a text")
        if not _writable(key + label):
            raise WrongValue("hold half a character (an unpaired surrogate)")
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
        raise WrongValue(f"are {shown(value)}, not an object of shares")
    shares: dict[str, float] = {}
    for key, share in value.items():
        if share is None:
            continue
        if type(key) is not str or not key or not _writable(key):
            raise WrongValue(f"name the emotion {shown(key)}")
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise WrongValue(f"hold {shown(key)}: {shown(share)}, not a share from 0 to 1")
        emotion = emotion_named(key) or key
        shares[emotion] = shares.get(emotion, 0.0) + share
    total = sum(shares.values())
    if shares and abs(total - 1) > _ROUNDED:
        raise WrongValue(f"sum to {total:g}, not to 1")
    if abs(total - 1) <= _EXACT:
        return shares
    return {emotion: share / total for emotion, share in shares.items()}


def _votes_are_right(name: str, values: Sequence[Any], kinds: set[type]) -> bool:
    if not kinds <= {dict}:
        return False
    for value in {id(value): value for value in values if value}.values():
        if not value.keys() <= SPELLINGS.keys() or not set(map(type, value.values())) <= {float}:
            return False
        # Said so that a sum of NaN, which no comparison holds for, is not right.
        if min(value.values()) < 0 or not abs(sum(value.values()) - 1) <= _EXACT:
            return False
    return True


def shown(value: Any) -> str:
    """A value as JSON, cut to 40 characters, for a message."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return cut(text.encode("utf-8", "backslashreplace").decode(), 40)


class Rule(NamedTuple):
    """What a field may hold.

    Attributes:
        glance: Whether a column of values, of these types, is right as it is, by the name of its field.
        rule: One value as a record holds it, by the name of its field; a :class:`WrongValue` where it is none.
    """

    glance: Callable[[str, Sequence[Any], set[type]], bool]
    rule: Callable[[str, Any], Any]


DEFAULTS: dict[str, Any] = {name: getattr(Utterance("", "", ""), name) for name in FIELDS}
RULES: dict[str, Rule] = dict.fromkeys(FIELDS, Rule(_texts_are_right, _text))
RULES |= dict.fromkeys((*_TIMES, *RATINGS), Rule(_numbers_are_right, _number))
RULES |= {
    "emotion": Rule(_emotions_are_right, _emotion),
    "split": Rule(_splits_are_right, _split),
    "units": Rule(_units_are_right, _units),
    "response_cut": Rule(_flags_are_right, _flag),
    "raw_labels": Rule(_labels_are_right, _labels),
    "emotion_votes": Rule(_votes_are_right, _votes),
    "references": Rule(_references_are_right, _references),
}
