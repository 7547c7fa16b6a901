"""Who validates where nobody was set apart for it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest

from empathy_lightning.data.packed import each, packed
from empathy_lightning.data.sentences import sentences
from empathy_lightning.utterance import Utterance

_FAMILY = ("speaker", "raw_labels", "session", "id")


def hold_out_speakers(utterances: Sequence[Utterance], share: float) -> Sequence[Utterance]:
    """Move a share of each corpus's training speakers to validation, or of what they say where they are few.

    Args:
        utterances: With splits.
        share: Of the training part, 0..1; drawn by a hash of the speaker or of the utterance's id, so it never
            changes with the order. Where it is above 0, something of each corpus validates, unless it has only
            one utterance to train on.
    """
    spoken: dict[str, set[str]] = defaultdict(set)
    for corpus, split, *of in each(utterances, "corpus", "split", *_FAMILY):
        if split == "train":
            spoken[corpus].add(_family(*of))
    # A share of few speakers would be none of them, or a far larger part.
    few = {corpus for corpus, families in spoken.items() if share * len(families) < 1}
    drawn = {corpus: _first(corpus, names, round(share * len(names))) for corpus, names in spoken.items()}
    ids: dict[str, list[str]] = defaultdict(list)
    for corpus, split, id in each(utterances, "corpus", "split", "id"):
        if split == "train" and corpus in few:
            ids[corpus].append(id)
    for corpus, names in ids.items():
        most = min(max(1, round(share * len(names))), len(names) - 1) if share > 0 else 0
        drawn[corpus] = _first(corpus, names, most)
    held = []
    for corpus, split, *of in each(utterances, "corpus", "split", *_FAMILY):
        name = of[-1] if corpus in few else _family(*of)
        held.append(split == "train" and name in drawn[corpus])
    return _validating(utterances, held)


def hold_out_sentences(utterances: Sequence[Utterance], share: float) -> Sequence[Utterance]:
    """Move a share of the training sentences to validation, so that the two parts have none in common.

    Args:
        utterances: With splits.
        share: Of the training sentences, 0..1; drawn by a hash of their words. Where it is above 0, at least one
            validates, unless there is only one.
    """
    said = sentences(packed(utterances).where("split", "train"))
    distinct = set(said)
    number = max(1, round(share * len(distinct))) if share > 0 else 0
    drawn = _first("", distinct, min(number, max(0, len(distinct) - 1)))
    own = iter(said)
    held = [split == "train" and next(own) in drawn for (split,) in each(utterances, "split")]
    return _validating(utterances, held)


def _validating(utterances: Sequence[Utterance], held: Sequence[bool]) -> Sequence[Utterance]:
    rows = zip(utterances, held, strict=True)
    return packed(replace(u, split="validation") if validates else u for u, validates in rows)


def _first(corpus: str, names: Iterable[str], number: int) -> set[str]:
    """So many of the names, drawn by a hash."""
    return set(nsmallest(number, names, key=lambda name: _hash(corpus, name)))


def _family(speaker: str | None, labels: Mapping[str, str], session: str | None, id: str) -> str:
    """What must not be torn apart: a speaker, else the turns of a session or the pairs of one instruction."""
    return speaker or labels.get("instruction") or session or id


def _hash(corpus: str, name: str) -> bytes:
    return hashlib.sha256(f"{corpus} {name}".encode()).digest()
