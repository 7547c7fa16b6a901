"""Read corpora and manifests for a command, and count what it leaves out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.left_out import MOST, Tally, count_left_by, count_skipped, have_files, in_task, outside
from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.data.packed import Packed, doubled, packed
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import meant
from empathy_lightning.splits import SPLITS, split_named
from empathy_lightning.utterance import Utterance


def read_split(
    corpora: Sequence[Corpus], protocol: Protocol | None, tally: Tally, audio: bool = True
) -> tuple[Packed, Packed]:
    """Read corpora and split them; what is left out is counted.

    Args:
        corpora: Where the utterances come from.
        protocol: Who trains and who tests; None takes the corpora's own splits.
        tally: Counts what was read and what was not.
        audio: Whether each utterance needs its audio file.

    Returns:
        All utterances of the corpora, and those that take part, with the protocol's splits.

    Raises:
        CorpusError: If a corpus is missing, or two hold one id.
    """
    read = packed(_read(corpora[0], tally) if len(corpora) == 1 else _read_all(corpora, tally))
    for index, _ in doubled(read)[:1]:
        again = read[index]
        raise CorpusError(f"{again.corpus}: two corpora of this run hold the id {again.id!r}; list each corpus once")
    taken = read
    if protocol is not None:
        taken = packed(protocol(read))
        count_left_by(protocol, read, taken, tally)
    if audio:
        taken = taken.take(have_files(taken, tally))
    tally.kept += len(taken)
    return read, taken


def _read(corpus: Corpus, tally: Tally) -> Sequence[Utterance]:
    utterances = corpus.utterances()
    count_skipped(corpus, tally)
    return utterances


def _read_all(corpora: Sequence[Corpus], tally: Tally) -> Iterator[Utterance]:
    for corpus in corpora:
        yield from _read(corpus, tally)


def read_chosen(
    manifest: str | Path,
    split: str = "all",
    most: float = MOST,
    audio: bool = True,
    emotions: Sequence[str] = (),
    lacking: Callable[[Utterance], str | None] | None = None,
) -> list[Utterance]:
    """The utterances of a manifest that a command uses, after a summary of what it leaves out.

    Args:
        manifest: The manifest.
        split: Split to use, in any spelling, or ``all``.
        most: Share that may be left out without having been asked for.
        audio: Whether each needs its audio file. Those without one are counted here, and named by the command.
        emotions: The task's categories, where only utterances with one of them are used; none takes all.
        lacking: Why an utterance cannot be used, None where it can; counted here, and left out by the command.

    Raises:
        CorpusError: If the manifest cannot be read, too much is left out, or there is no such split.
    """
    wanted = "all" if split == "all" else split_named(split)
    if wanted is None:
        raise CorpusError(f"no split is named {split!r}: give all, {', '.join(SPLITS)}{meant(split, ['all', *SPLITS])}")
    tally = Tally()
    read = read_manifest(manifest)
    utterances = [u for u in read if wanted in ("all", u.split)]
    if others := len(read) - len(utterances):
        tally.asked["of other splits"] += others
    if emotions:
        utterances = _labelled(utterances, emotions, tally)
    usable = utterances
    if lacking is not None:
        usable = _usable(utterances, lacking, tally)
    tally.kept = sum(have_files(usable, tally)) if audio else len(usable)
    print(f"{Path(manifest).name}: {tally.describe()}", file=sys.stderr)
    tally.refuse_above(most, "--allow_left_out")
    return utterances


def _labelled(utterances: Sequence[Utterance], emotions: Sequence[str], tally: Tally) -> list[Utterance]:
    """Those with one of the task's emotions; a label that is no emotion word is a loss, another emotion is none."""
    found = []
    for utterance in in_task(utterances, emotions, Tally()):
        label = utterance.emotion
        if label is None:
            tally.asked["without a label of the task"] += 1
        elif label in emotions:
            found.append(utterance)
        elif emotion_named(label) is None:
            tally.lose(f"labelled {outside(label, emotions)}, which is no known emotion word", utterance.id)
        else:
            tally.asked[f"labelled {outside(label, emotions)}, not among the task's emotions"] += 1
    return found


def _usable(
    utterances: Sequence[Utterance], lacking: Callable[[Utterance], str | None], tally: Tally
) -> list[Utterance]:
    usable = []
    for utterance in utterances:
        reason = lacking(utterance)
        if reason is None:
            usable.append(utterance)
        else:
            tally.lose(reason, utterance.id)
    return usable
