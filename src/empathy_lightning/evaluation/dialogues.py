"""Questions that follow others: each is answered with the turns before it and the bot's own replies to them.

A question of a later turn names the one before it, of the same corpus, by the raw label ``follows``. All first turns
are answered, then all second ones, ...; each of these rounds is a manifest of its own, with the turns so far in it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from empathy_lightning.data.manifest import read_manifest, write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.answering import EARLIER, Answering, earlier_turns
from empathy_lightning.evaluation.replies import answer_manifest
from empathy_lightning.evaluation.suites.suite import FOLLOWS
from empathy_lightning.utterance import Utterance

HISTORY = "history"
"""Raw label of the last reply of a dialogue: the turns before it in words, as a judge of the whole reads them."""


def answer_dialogues(how: Answering, manifest: Path, out: Path, split: str, again: bool) -> None:
    """Answer a manifest, turn by turn where questions follow others; ``out`` is there once all are answered.

    Args:
        how: The bot, and how it answers.
        manifest: Questions.
        out: Manifest of the replies.
        split: Split to use, or ``all``.
        again: Answer anew.

    Raises:
        InputError: If bot or questions cannot be used.
    """
    if not any(FOLLOWS in question.raw_labels for question in read_manifest(manifest)):
        answer_manifest(how, manifest, out, split, again)
        return
    questions = read_chosen(manifest, split, how.max_left_out, audio=False)
    known: dict[tuple[str, str], Utterance] = {}
    for number, turns in enumerate(rounds_of(questions), 1):
        asked, told = (out.with_name(f"{out.stem}.turn-{number}.{name}.jsonl") for name in ("asked", "told"))
        asked.parent.mkdir(parents=True, exist_ok=True)
        # What was not answered is not followed either.
        ready = [turn for turn in turns if _is_ready(turn, known)]
        write_manifest(asked, [_with_earlier(turn, known) for turn in ready])
        answer_manifest(how, asked, told, "all", again)
        if not told.is_file():
            print(f"{told.name}: other processes answer it too; run again for the turns that follow")
            return
        known |= {(reply.corpus, reply.id): reply for reply in read_manifest(told)}
    there = [known[question.corpus, question.id] for question in questions if (question.corpus, question.id) in known]
    followed = {_before(question) for question in there if FOLLOWS in question.raw_labels}
    write_manifest(out, [_told(reply, (reply.corpus, reply.id) not in followed) for reply in there])


def rounds_of(questions: Sequence[Utterance]) -> list[list[Utterance]]:
    """The questions by their turn: those that follow none, those that follow these, ...

    Raises:
        InputError: If one follows a question that is not there, or itself.
    """
    left = {(question.corpus, question.id): question for question in questions}
    known: set[tuple[str, str]] = set()
    rounds: list[list[Utterance]] = []
    while left:
        turns = [question for question in left.values() if _is_ready(question, known)]
        if not turns:
            lost = next(iter(left.values()))
            raise InputError(
                f"{lost.corpus}/{lost.id} follows {lost.raw_labels[FOLLOWS]}, which is not there: give whole dialogues"
            )
        rounds.append(turns)
        for turn in turns:
            known.add((turn.corpus, turn.id))
            del left[turn.corpus, turn.id]
    return rounds


def _is_ready(question: Utterance, known: Collection[tuple[str, str]]) -> bool:
    """Whether a question follows none, or one of those that are known."""
    return FOLLOWS not in question.raw_labels or _before(question) in known


def _before(question: Utterance) -> tuple[str, str]:
    return question.corpus, question.raw_labels[FOLLOWS]


def _with_earlier(question: Utterance, known: dict[tuple[str, str], Utterance]) -> Utterance:
    """A question with all turns before it, and their replies."""
    if FOLLOWS not in question.raw_labels:
        return question
    last = known[_before(question)]
    # Nobody moves the paths inside a label with the manifest, so this one is whole.
    turn = replace(last, path=str(Path(last.path).absolute()), raw_labels={}, units=None, response_path=None)
    earlier = [*json.loads(last.raw_labels.get(EARLIER, "[]")), turn.to_dict()]
    return replace(question, raw_labels={**question.raw_labels, EARLIER: json.dumps(earlier, ensure_ascii=False)})


def _told(reply: Utterance, last: bool) -> Utterance:
    """A reply, of which the last one of a dialogue tells the turns before it in words."""
    said = [f"User: {turn.transcript or ''}\nAssistant: {turn.response or ''}" for turn in earlier_turns(reply)]
    labels = {name: label for name, label in reply.raw_labels.items() if name != EARLIER}
    if said and last:
        labels[HISTORY] = "\n".join(said)
    return replace(reply, raw_labels=labels)
