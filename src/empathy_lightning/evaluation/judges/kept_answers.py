"""Answers on disk, found again by what was asked: a line each, added whole, so that an end at any time loses none."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.judges.judge import Answer, Question
from empathy_lightning.files import check_folder

_FIELDS = {"text": str, "refused": bool, "cut": bool, "date": str}


class Kept(NamedTuple):
    """An answer and when it was given (UTC, ISO 8601)."""

    answer: Answer
    date: str


def key_of(identity: dict[str, Any], question: Question) -> str:
    """SHA-256 over what decides an answer: judge and settings, words, recordings, and the question's number."""
    asked = {
        "judge": identity,
        "system": question.system,
        "text": question.text,
        "recordings": [(r.title, hashlib.sha256(r.wav).hexdigest()) for r in question.recordings],
        "number": question.number,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class KeptAnswers:
    """All answers that a folder holds, of any judges and criteria; several processes may add to it.

    Args:
        folder: Made if it is not there; the answers are in ``answers.jsonl``.

    Raises:
        InputError: If nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._file = folder / "answers.jsonl"
        self._kept = dict(_read(self._file))

    def __getitem__(self, key: str) -> Kept:
        return self._kept[key]

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def keep(self, key: str, answer: Answer) -> None:
        """Add an answer.

        Raises:
            InputError: If it cannot be written.
        """
        kept = Kept(answer, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
        line = json.dumps({"key": key, "date": kept.date, **asdict(answer)}, ensure_ascii=False)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Half of a surrogate pair, which an answer's JSON may hold, has no bytes in UTF-8.
            _add(self._file, f"{line}\n".encode(errors="replace"))
        except OSError as error:
            raise InputError(f"{self._file} cannot be written: {error}; what was answered before is kept") from None
        self._kept[key] = kept


def _add(file: Path, line: bytes) -> None:
    """Add a line in one piece; where an earlier one was torn, on a line of its own."""
    # With O_APPEND, lines that several processes write at once stand one after the other.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        written = os.write(descriptor, line)
        if written != len(line):
            # The rest of a full disk took a part; the next writer begins a line of its own.
            raise OSError("no space left for a whole line")
    finally:
        os.close(descriptor)


def _read(file: Path) -> Iterator[tuple[str, Kept]]:
    """What the whole lines hold; a torn one is passed over, and so its question is asked again."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                values = json.loads(line)
                key, served = values["key"], values["served"]
                text, refused, cut, date = (values[name] for name in _FIELDS)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if all(isinstance(values[name], kind) for name, kind in _FIELDS.items()):
                yield key, Kept(Answer(text, refused, cut, served), date)
