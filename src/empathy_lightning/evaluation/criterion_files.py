"""Criteria as YAML files: those of this package by name, a user's own by path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from empathy_lightning.configurations import read_yaml
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation.criterion import Criterion
from empathy_lightning.evaluation.judges.judge import Sampling
from empathy_lightning.evaluation.score_readers import Choice, InJson, InPattern, Scale, ScoreReader
from empathy_lightning.evaluation.wording import Wording

_KEYS = ("name", "version", "title", "source", "wording", "user", "reply", "system", "prompt", "samples", "attempts")
_OPTIONAL = ("system", "samples", "attempts", "sampling")
_WORDINGS = ("ours", "published", "yours")
_TAKEN = ("answers", "faults", "questions", "unparsed", "refused", "unanswered", "lacking", "unreadable", "asked")
"""What else stands beside scores."""


def criterion_names() -> list[str]:
    """Names of the criteria that come with the package."""
    folder = files("empathy_lightning.evaluation") / "criteria"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_criterion(name: str) -> Criterion:
    """A criterion of the package by its name, or the path of a YAML file.

    Raises:
        InputError: If there is none, or something in it is wrong; the message names the key.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        file = Path(name)
        if not file.is_file():
            raise InputError(f"no criterion at {file}")
        return read_criterion(file)
    known = criterion_names()
    if name not in known:
        near = meant(name, known) or f"; there are {', '.join(known)}"
        raise InputError(f"no criterion named {name!r}{near}")
    return read_criterion(Path(str(files("empathy_lightning.evaluation") / "criteria" / f"{name}.yaml")))


def read_criterion(file: Path) -> Criterion:
    """A criterion from its file; see ``docs/judges.md`` for the keys.

    Raises:
        InputError: If something in it is wrong; the message names the key.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} is no criterion: it has no keys such as name and prompt")
    try:
        return _criterion(content)
    except _Wrong as error:
        raise InputError(f"{file}: {error}") from None


class _Wrong(ValueError):
    """What is wrong with a criterion."""


def _criterion(content: dict[str, Any]) -> Criterion:
    _check_keys("", content, (*_KEYS, "sampling", "score"), _OPTIONAL)
    for key, kind in (("version", int), ("samples", int), ("attempts", int)):
        if not isinstance(content.get(key, 1), kind) or content.get(key, 1) < 1:
            raise _Wrong(f"{key} is {content[key]!r}: give a whole number from 1")
    for key in ("name", "title", "source", "prompt", "user", "reply"):
        if not isinstance(content[key], str) or not content[key].strip():
            raise _Wrong(f"{key} is {content[key]!r}: give words")
    if content["wording"] not in _WORDINGS:
        raise _Wrong(f"wording is {content['wording']!r}: give {', '.join(_WORDINGS)}")
    reader = _reader(content["score"])
    for name in reader.names:
        if not isinstance(name, str) or name in _TAKEN:
            raise _Wrong(f"a score cannot be named {name!r}: give another name")
    choices = reader.words if isinstance(reader, Choice) else ()
    wording = Wording(content.get("system"), content["prompt"].strip(), content["user"], content["reply"], choices)
    if fault := wording.unknown_words():
        raise _Wrong(fault)
    if unknown := wording.unknown_slots():
        raise _Wrong(f"prompt has the slot {{{unknown[0]}}}, which nothing fills")
    return Criterion(
        name=content["name"],
        version=content["version"],
        title=content["title"],
        source=content["source"],
        origin=content["wording"],
        wording=wording,
        reader=reader,
        sampling=_sampling(content.get("sampling", {})),
        samples=content.get("samples", 1),
        attempts=content.get("attempts", 1),
    )


def _check_keys(place: str, content: Any, known: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise _Wrong(f"{place or 'it'} has no keys; there are {', '.join(known)}")
    for key in content:
        if key not in known:
            raise _Wrong(f"{place}{key} is no key of a criterion{meant(str(key), known)}")
    for key in known:
        if key not in content and key not in optional:
            raise _Wrong(f"{place}{key} is missing")


def _sampling(content: Any) -> Sampling:
    known = tuple(Sampling.__dataclass_fields__)
    _check_keys("sampling.", content, known, known)
    for key, value in content.items():
        kind: Any = int if key in ("top_k", "seed", "max_tokens") else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or value < 0:
            raise _Wrong(f"sampling.{key} is {value!r}: give a number")
    return Sampling(**content)


def _reader(content: Any) -> ScoreReader:
    """The reader that the key ``score`` describes: by ``pattern``, ``json`` or ``choices``."""
    keys = content if isinstance(content, dict) else {}
    forms = [form for form in ("pattern", "json", "choices") if form in keys]
    if len(forms) != 1:
        raise _Wrong("score needs one of pattern, json and choices")
    form = forms[0]
    if form == "choices":
        _check_keys("score.", content, ("choices", "values", "name"), ("values", "name"))
        words, values = tuple(_words(content["choices"])), content.get("values", {})
        numbers = isinstance(values, dict) and all(map(_is_number, values.values()))
        if not numbers or (values and set(values) != set(words)):
            raise _Wrong("score.values: give each of score.choices a number")
        return Choice(words, values, content.get("name", "score"))
    _check_keys("score.", content, (form, "scale", "only", "times", "name"), ("only", "times", "name"))
    scale = _scale(content)
    if form == "json":
        return InJson(tuple(_words(content["json"])), scale)
    try:
        groups = re.compile(content["pattern"]).groups
    except (re.error, TypeError) as error:
        raise _Wrong(f"score.pattern: {error}") from None
    if groups != 1:
        raise _Wrong("score.pattern needs one group, that of the number")
    return InPattern(content["pattern"], scale, content.get("name", "score"))


def _scale(content: Mapping[str, Any]) -> Scale:
    numbers = content["scale"]
    if not isinstance(numbers, list) or len(numbers) != 2 or not all(_is_number(n) for n in numbers):
        raise _Wrong("score.scale: give the lowest and the highest number")
    only, times = content.get("only", []), content.get("times", 1)
    if not _is_number(times) or not isinstance(only, list) or not all(_is_number(n) for n in only):
        raise _Wrong("score.only and score.times: give numbers")
    if not numbers[0] < numbers[1]:
        raise _Wrong(f"score.scale: {numbers[0]} is not below {numbers[1]}")
    return Scale(numbers[0], numbers[1], times, tuple(only))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        raise _Wrong("score: give a list of words")
    for word in value:
        # YAML reads a bare Yes or No as a truth.
        if not isinstance(word, str):
            raise _Wrong(f"score: {word!r} is no word; put it in quotes")
        yield word
