"""What was read and what was not, by reason: one summary at the start of a command, and a limit."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from empathy_lightning.corpora.corpus import Corpus, CorpusError, Kind, is_lfs_pointer
from empathy_lightning.data.packed import each, keys, packed
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.emotion_words import chosen_emotion, emotion_named, suggested_emotion
from empathy_lightning.files import file_of
from empathy_lightning.storage import is_url, local_path
from empathy_lightning.utterance import Utterance

MOST = 0.01
"""Share of the utterances that may be left out without having been asked for."""


@dataclass
class Tally:
    """How many utterances were read, and why others were not, or are without a label of the task.

    Attributes:
        kept: Utterances that take part.
        lost: Left out though nobody asked for it, by reason.
        asked: Left out by a protocol, an option or a corpus's own design, by reason.
        unlabelled: Kept, with a label that is not among the task's emotions, by that label.
        unknown: How many of the unlabelled have a label that is no emotion word at all.
        examples: A file or id for each reason of a loss.
    """

    kept: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def lose(self, reason: str, example: str) -> None:
        """Count an utterance that was left out though nobody asked for it."""
        self.lost[reason] += 1
        self.examples.setdefault(reason, example)

    def drop(self, number: int, reason: str) -> None:
        """Count utterances that were read, and are left out for a reason that was asked for."""
        if number:
            self.kept -= number
            self.asked[reason] += number

    def describe(self) -> str:
        """One line: what was read of how many, and the others by reason, the most frequent first."""
        left = self.lost.total() + self.asked.total()
        line = f"read {self.kept:,} of {self.kept + left:,} utterances"
        reasons = [f"{n:,} {reason}" for reason, n in (self.lost + self.asked).most_common()]
        if reasons:
            line += ": " + ", ".join(reasons[:8])
        if len(reasons) > 8:
            line += f", {len(reasons) - 8} other reasons"
        if self.unlabelled:
            labels = ", ".join(f"{n:,} {label}" for label, n in self.unlabelled.most_common(8))
            line += f"; without a label of the task: {labels}"
        return line

    def refuse_above(self, most: float, option: str, labels: bool = False) -> None:
        """Stop where too much was left out that nobody asked for.

        Args:
            most: Share that may be, 0..1.
            option: How to allow more, for the message.
            labels: Count what has a label that is no emotion word as lost.

        Raises:
            CorpusError: If more was.
        """
        unknown = self.unknown if labels else 0
        lost = self.lost.total() + unknown
        whole = self.kept + self.lost.total()
        if lost <= most * whole:
            return
        reasons = [f"{n:,} {reason}" + self._example(reason) for reason, n in self.lost.most_common(2)]
        if unknown:
            reasons += [f"{n:,} labelled {label}" for label, n in self.unlabelled.most_common(2)]
        said = f"{lost:,} of {whole:,} utterances would be lost: {', '.join(reasons)}"
        # Rounded up, so that the share that is advised is enough; a message has 300 characters at most.
        advice = f"mend them, or allow it with {option} {lost / whole + 0.005:.2f}"
        raise CorpusError(f"{said[: 297 - len(advice)]}; {advice}")

    def _example(self, reason: str) -> str:
        example = self.examples.get(reason, "")
        if not example:
            return ""
        # Of a path the end tells most.
        shown = example if len(example) < 60 else f"...{example[-57:]}"
        return f" ({shown})"


def kind_of(reason: str) -> str:
    """A reason without what is another one in each case: quoted words, numbers, remarks after a colon."""
    reason = re.sub(r"\([^()]*\)|'[^']*'|\"[^\"]*\"|\b\d+\b", "", re.split(r"[:;]", reason)[0])
    return " ".join(reason.split())


def count_skipped(corpus: Corpus, tally: Tally) -> None:
    """Count what a corpus left out while it was read; what lacks its label or transcript alone is not left out."""
    for path, reason, kind in corpus.skipped:
        if kind is Kind.COPY:
            tally.asked["doubled copies"] += 1
        elif kind is Kind.ASKED:
            tally.asked[kind_of(reason)] += 1
        elif kind is Kind.LOST:
            tally.lose(kind_of(reason), path)


def count_left_by(protocol: Protocol, before: Sequence[Utterance], after: Sequence[Utterance], tally: Tally) -> None:
    """Count what a protocol leaves out: asked for, but for a whole corpus and for labels that are no emotion words."""
    left = np.flatnonzero(~np.isin(keys(before), keys(after))).tolist()
    corpora = {corpus for (corpus,) in each(after, "corpus")}
    for place in left:
        utterance = before[place]
        label = utterance.emotion
        if utterance.corpus not in corpora:
            tally.lose(f"of {utterance.corpus}, of which the protocol takes none", utterance.id)
        elif protocol.emotions is not None and label is not None and emotion_named(label) is None:
            tally.lose(f"labelled {outside(label, protocol.emotions)}, which is no known emotion word", utterance.id)
        else:
            tally.asked["by the protocol"] += 1


def have_files(utterances: Sequence[Utterance], tally: Tally) -> list[bool]:
    """Of each utterance whether its audio is there, without a look into it; those without are counted.

    Each folder is listed once, which is far quicker than to ask for each file.
    """
    folders: dict[str, set[str]] = {}
    there = []
    for paths in each(utterances, "path", "emotion_path"):
        missing = [path for path in paths if path and not _is_there(path, folders)]
        there.append(not missing)
        if missing:
            hollow = os.path.exists(_local_file(missing[0]))
            tally.lose("with an empty file or a Git LFS pointer" if hollow else "without a file", missing[0])
    return there


def _is_there(path: str, folders: dict[str, set[str]]) -> bool:
    if is_url(path):
        return True
    folder, name = os.path.split(_local_file(path))
    if folder not in folders:
        folders[folder] = _names(folder)
    return name in folders[folder]


def _local_file(path: str) -> str:
    """The file that holds a recording on this machine."""
    return file_of(local_path(path))


def _names(folder: str) -> set[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in entries if entry.is_file() and not _is_hollow(entry)}
    except OSError:
        return set()


def _is_hollow(entry: os.DirEntry[str]) -> bool:
    """Whether a file is empty, or a pointer in the place of one."""
    size = entry.stat().st_size
    return size == 0 or (size <= 400 and is_lfs_pointer(Path(entry.path)))


def in_task(utterances: Sequence[Utterance], emotions: Sequence[str], tally: Tally) -> Sequence[Utterance]:
    """The utterances with their labels as the task spells them; labels outside the task stay, and are counted.

    Args:
        utterances: With labels in any spelling.
        emotions: The task's categories.
        tally: Counts the labels that are none of them, those that are no emotion words at all apart.
    """
    names: dict[str, str] = {}

    def _named(label: str) -> str:
        if label not in names:
            names[label] = chosen_emotion(label, emotions) or label
        return names[label]

    changed = False
    for label, votes in each(utterances, "emotion", "emotion_votes"):
        changed = changed or any(_named(heard) != heard for heard in votes)
        if label is None:
            continue
        named = _named(label)
        changed = changed or named != label
        if named not in emotions:
            tally.unlabelled[outside(label, emotions)] += 1
            tally.unknown += emotion_named(label) is None
    # Records that are by the million are not made anew where they stay as they are.
    return packed(_renamed(u, _named) for u in utterances) if changed else utterances


def _renamed(utterance: Utterance, named: Callable[[str], str]) -> Utterance:
    votes: dict[str, float] = defaultdict(float)
    for heard, share in utterance.emotion_votes.items():
        votes[named(heard)] += share
    emotion = None if utterance.emotion is None else named(utterance.emotion)
    return replace(utterance, emotion=emotion, emotion_votes=dict(votes))


def outside(label: str, emotions: Sequence[str]) -> str:
    """A label that is none of a task's emotions, with the one that may have been meant."""
    meant = suggested_emotion(label, emotions)
    return f"{label!r} (did you mean {meant}?)" if meant else f"{label!r}"


def refuse_lost(lost: Sequence[tuple[str, str]], whole: int, most: float) -> None:
    """Stop where too many utterances turned out lost in a command's own work, after its manifest was read.

    Args:
        lost: Reason and example of each.
        whole: How many were chosen.
        most: Share that may be lost, 0..1.

    Raises:
        CorpusError: If more are.
    """
    tally = Tally(kept=whole - len(lost))
    for reason, example in lost:
        tally.lose(reason, example)
    tally.refuse_above(most, "--allow_left_out")


def refuse_untaught(
    utterances: Iterable[tuple[str | None, Collection[str]]], emotions: Sequence[str], chosen: Sequence[str] | None
) -> None:
    """Stop where one of the emotions that are to be learnt has no utterance.

    Args:
        utterances: Emotion of each utterance of the training, as the task spells it, and the emotions voted for.
        emotions: The task's categories.
        chosen: Those that the protocol takes; None takes all. What it leaves out was asked for.

    Raises:
        CorpusError: If one has none.
    """
    labels: Counter[str] = Counter()
    voted: set[str] = set()
    for emotion, votes in utterances:
        labels[emotion or ""] += 1
        voted.update(votes)
    del labels[""]
    trained = voted | labels.keys()
    wanted = [name for name in emotions if chosen is None or chosen_emotion(name, chosen) is not None]
    empty = [name for name in wanted if name not in trained]
    if not empty:
        return
    found = ", ".join(f"{name} {count}" for name, count in labels.most_common(8)) or "no label at all"
    raise CorpusError(
        f"data.emotions: no training utterance is labelled {', '.join(empty)} (there are {found}); "
        "take them out of data.emotions, or give --data.allow_empty_classes true"
    )
