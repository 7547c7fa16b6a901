"""What a judge is asked of a reply, and how its answer is read: a YAML file of this package or of a user's own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from empathy_lightning.configurations import read_yaml
from empathy_lightning.errors import InputError, meant
from empathy_lightning.evaluation.judges.judge import Sampling
from empathy_lightning.evaluation.score_readers import Choice, InJson, InPattern, Scale, ScoreReader
from empathy_lightning.evaluation.wording import GivenOfReply, GivenOfUser, Wording

_KEYS = ("name", "version", "title", "source", "wording", "user", "reply", "system", "prompt", "samples", "attempts")
_OPTIONAL = ("system", "samples", "attempts", "sampling")
_WORDINGS = ("ours", "published", "yours")


@dataclass(frozen=True)
class Criterion:
    """A question about replies.

    Attributes:
        name: Short name; figures carry it.
        version: Counts up when a word of it changes.
        title: What is asked, in a line.
        source: Where the rule comes from, and whom its authors ask.
        origin: ``ours`` where only the rule is published, ``published`` or ``yours``.
        wording: The words.
        reader: Of the answers.
        sampling: How an answer is drawn.
        samples: How often each question is asked.
        attempts: How often it is asked at most until an answer can be read.
    """

    name: str
    version: int
    title: str
    source: str
    origin: str
    wording: Wording
    reader: ScoreReader
    sampling: Sampling = field(default_factory=Sampling)
    samples: int = 1
    attempts: int = 1

    def given(self, user: str | None, reply: str | None) -> Criterion:
        """The same with other things given of the user and of the reply; None leaves them.

        Raises:
            InputError: If a word is unknown, or its wording has no place for them.
        """
        wording = replace(self.wording, user=user or self.wording.user, reply=reply or self.wording.reply)
        try:
            _check_given(wording)
        except _Wrong as error:
            raise InputError(f"criterion {self.name}: {error}") from None
        if reply is not None and "{reply}" not in wording.prompt:
            raise InputError(f"criterion {self.name} asks nothing of the reply: leave out reply {reply}")
        if user is not None and "{user}" not in wording.prompt:
            raise InputError(f"criterion {self.name} has its own place for the user: leave out user {user}")
        return replace(self, wording=wording)

    def choosing(self, words: tuple[str, ...]) -> Criterion:
        """The same with other words to choose from.

        Raises:
            InputError: If it offers none.
        """
        if not isinstance(self.reader, Choice):
            raise InputError(f"criterion {self.name} offers no words to choose from")
        reader, wording = replace(self.reader, words=words), replace(self.wording, choices=words)
        return replace(self, reader=reader, wording=wording)

    def facts(self) -> dict[str, Any]:
        """What stands beside its figures."""
        return {
            "criterion": self.name,
            "version": self.version,
            "wording": self.origin,
            "source": self.source,
            "prompt_sha256": hashlib.sha256(json.dumps(vars(self.wording), sort_keys=True).encode()).hexdigest(),
            "read": self.reader.described(),
            "samples": self.samples,
            "user_given": self.wording.user,
            "reply_given": self.wording.reply,
        }


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
        raise InputError(f"no criterion named {name!r}; there are {', '.join(known)}{meant(name, known)}")
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
    choices = reader.words if isinstance(reader, Choice) else ()
    wording = Wording(content.get("system"), content["prompt"].strip(), content["user"], content["reply"], choices)
    _check_given(wording)
    if unknown := wording.unknown_slots():
        raise _Wrong(f"prompt has the slot {{{unknown[0]}}}, which nothing fills")
    facts = [content[key] for key in ("name", "version", "title", "source", "wording")]
    repeats = {key: content.get(key, 1) for key in ("samples", "attempts")}
    return Criterion(*facts, wording, reader, _sampling(content.get("sampling", {})), **repeats)


def _check_keys(place: str, content: Any, known: tuple[str, ...], optional: tuple[str, ...]) -> None:
    if not isinstance(content, dict):
        raise _Wrong(f"{place or 'it'} has no keys; there are {', '.join(known)}")
    for key in content:
        if key not in known:
            raise _Wrong(f"{place}{key} is no key of a criterion{meant(str(key), known)}")
    for key in known:
        if key not in content and key not in optional:
            raise _Wrong(f"{place}{key} is missing")


def _check_given(wording: Wording) -> None:
    for key, known in (("user", get_args(GivenOfUser)), ("reply", get_args(GivenOfReply))):
        given = getattr(wording, key)
        if given not in known:
            raise _Wrong(f"{key} {given!r} is none of {', '.join(known)}")


def _sampling(content: Any) -> Sampling:
    known = tuple(Sampling.__dataclass_fields__)
    _check_keys("sampling.", content, known, known)
    for key, value in content.items():
        whole = key in ("top_k", "seed", "max_tokens")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or value < 0:
            raise _Wrong(f"sampling.{key} is {value!r}: give a number")
    return Sampling(**content)


def _reader(content: Any) -> ScoreReader:
    """The reader that the key ``score`` describes: by ``pattern``, ``json`` or ``choices``."""
    forms = [form for form in ("pattern", "json", "choices") if isinstance(content, dict) and form in content]
    if len(forms) != 1:
        raise _Wrong("score needs one of pattern, json and choices")
    form = forms[0]
    if form == "choices":
        _check_keys("score.", content, ("choices", "values", "name"), ("values", "name"))
        words, values = tuple(_words(content["choices"])), content.get("values", {})
        if values and (not isinstance(values, dict) or set(values) != set(words)):
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
