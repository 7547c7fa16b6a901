"""The replies that a run measures: a bot's to manifests of questions, or those that files hold already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, folder_digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.answering import Answering
from empathy_lightning.evaluation.dialogues import answer_dialogues
from empathy_lightning.evaluation.result_folder import PREDICTIONS, replies_in
from empathy_lightning.hub import local_folder
from empathy_lightning.progress import say
from empathy_lightning.utterance import SPOKEN, Utterance

Key = tuple[str, str]
"""Corpus and id."""

OF_REPLY = ("response", "response_cut", "response_path", "units")
"""Fields of an utterance that tell its reply."""


@dataclass(frozen=True)
class Source:
    """Whose replies a run measures: those of ``answering``, or those that files hold already.

    Attributes:
        questions: Manifests by name, whose suites, labels and references count; none leaves them to ``given``.
        given: Manifests whose responses are the replies, or predictions.jsonl of runs, by name; none if a bot answers.
        answering: The bot, and how it answers.
        split: Split to use, or ``all``.
        max_left_out: Share of the questions, and of the lines of such files, that may have no reply.
    """

    questions: Mapping[str, Path]
    given: Mapping[str, Path] = field(default_factory=dict)
    answering: Answering | None = None
    split: str = "test"
    max_left_out: float = MOST

    @classmethod
    def of(
        cls,
        questions: Sequence[Path],
        given: Sequence[Path],
        answering: Answering | None,
        split: str = "test",
        max_left_out: float = MOST,
    ) -> Source:
        """Of files, which are named by what they are called.

        Raises:
            InputError: If two have one name, there is none, or it is not said whose replies are meant.
        """
        if (answering is None) == (not given):
            raise InputError("whose replies are measured? give --checkpoint, a bot's, or --replies, those of files")
        if answering is not None and not questions:
            raise InputError("give one manifest of questions or more")
        return cls(_named(questions), _named(given), answering, split, max_left_out)

    def read(self, out: Path, again: bool) -> dict[str, list[Utterance]] | None:
        """The replies by the names of their questions, or of their files; None while other processes owe shards.

        Args:
            out: Folder of the run.
            again: Answer anew.

        Raises:
            InputError: If bot or files cannot be used, or a file holds no replies, or none to these questions.
        """
        if self.answering is not None:
            return _answered(self.questions, out, self.answering, self.split, again)
        split = "all" if self.questions else self.split
        held = {name: _held(file, split, self.max_left_out) for name, file in self.given.items()}
        if not self.questions:
            return held
        together = list(chain.from_iterable(held.values()))
        found = {}
        for name, file in self.questions.items():
            found[name] = joined(read_chosen(file, self.split, audio=False), together, str(file), self.max_left_out)
        return found

    def described(self) -> dict[str, Any]:
        """Bot and files with their digests, as JSON values."""
        files = {"manifests": self.questions, "replies": self.given}
        bot = None if self.answering is None else _bot(self.answering)
        found: dict[str, Any] = {"bot": bot, "split": self.split}
        for kind, of_kind in files.items():
            found[kind] = {name: {"path": str(file), "digest": digest(file)} for name, file in of_kind.items()}
        return found


def _bot(answering: Answering) -> dict[str, Any]:
    checkpoint = answering.checkpoint
    named = {"checkpoint": str(checkpoint), "checkpoint_digest": folder_digest(local_folder(checkpoint))}
    return {**named, **answering.described(), "words": answering.words}


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Files by the names under which their results lie; of a run's folder its predictions."""
    found: dict[str, Path] = {}
    for file in files:
        place = file / PREDICTIONS if file.is_dir() else file
        name = place.absolute().parent.name if place.name == PREDICTIONS else place.stem
        other = found.setdefault(name, place)
        if other is not place:
            raise InputError(f"{other} and {place} have one name: rename one, results lie under it")
    return found


def _answered(
    questions: Mapping[str, Path], out: Path, answering: Answering, split: str, again: bool
) -> dict[str, list[Utterance]] | None:
    written = {name: out / "replies" / f"{name}.jsonl" for name in questions}
    for name, manifest in questions.items():
        answer_dialogues(answering, manifest, written[name], split, again)
    # A manifest may have been ended by another process since this one did its share of it.
    if not all(file.is_file() for file in written.values()):
        return None
    found = {}
    for name, manifest in questions.items():
        expected = {(u.corpus, u.id): _expected(u) for u in read_manifest(manifest)}
        replies = read_manifest(written[name])
        found[name] = [replace(u, references=expected[u.corpus, u.id]) for u in replies]
    return found


def joined(
    questions: Sequence[Utterance], replies: Sequence[Utterance], where: str, most: float = MOST
) -> list[Utterance]:
    """The questions with their replies; what a question expected as its response becomes its reference.

    Args:
        questions: With all that is known of them.
        replies: To these and perhaps others, in any order.
        where: Names the questions.
        most: Share of them that may have no reply.

    Raises:
        InputError: If a question has two replies, none has one, or more lack one.
    """
    known: dict[Key, Utterance] = {}
    for reply in replies:
        if known.setdefault((reply.corpus, reply.id), reply) is not reply:
            raise InputError(f"there are two replies to {reply.corpus}/{reply.id}: give one of them")
    found = []
    lost = []
    for question in questions:
        own = known.get((question.corpus, question.id))
        if own is None:
            lost.append(("without a reply", question.id))
        else:
            found.append(_with_reply(question, own))
    if not found:
        raise InputError(f"{where}: there is no reply to any of its questions: corpora and ids have to agree")
    refuse_lost(lost, len(questions), most)
    if lost:
        say(f"{where}: {len(lost)} of {len(questions)} questions have no reply and are left out")
    return found


def by_suite(read: Mapping[str, Sequence[Utterance]]) -> dict[str, list[Utterance]]:
    """The replies of each suite; of an utterance that names none, the file's name stands for it.

    Raises:
        InputError: If two files hold a reply to one question.
    """
    suites: dict[str, list[Utterance]] = {}
    seen: set[tuple[str, str, str]] = set()
    for name, replies in read.items():
        for reply in replies:
            suite = reply.suite or name
            key = (suite, reply.corpus, reply.id)
            if key in seen:
                raise InputError(f"suite {suite} has {reply.corpus}/{reply.id} in two manifests: give it once")
            seen.add(key)
            suites.setdefault(suite, []).append(reply)
    return suites


def _held(file: Path, split: str, most: float) -> list[Utterance]:
    if _is_predictions(file):
        return replies_in(file)
    read = read_chosen(file, split, audio=False)
    found = [u for u in read if u.response is not None]
    if not found:
        raise InputError(f"{file} has no responses in split {split}: --split all takes every one, --checkpoint answers")
    refuse_lost([("without a response", u.id) for u in read if u.response is None], len(read), most)
    return found


def _is_predictions(file: Path) -> bool:
    """Whether the first line is one of predictions.jsonl, which names what measures say."""
    if file.suffix != ".jsonl" or not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as lines:
        try:
            line = json.loads(lines.readline())
        except ValueError:
            return False
    return isinstance(line, dict) and {"reply", "measures"} <= set(line)


def _with_reply(question: Utterance, reply: Utterance) -> Utterance:
    of_reply = {name: getattr(reply, name) for name in OF_REPLY}
    # How the expected reply was spoken tells nothing of this one.
    labels = {name: label for name, label in question.raw_labels.items() if name not in SPOKEN}
    return replace(question, **of_reply, raw_labels={**labels, **reply.raw_labels}, references=_expected(question))


def _expected(question: Utterance) -> list[str]:
    """What a reply is compared with: the references, else the response that the question brings."""
    if question.references or not question.response:
        return question.references
    return [question.response]
