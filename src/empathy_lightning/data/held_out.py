"""Who validates where nobody was set apart for it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from empathy_lightning.data.sentences import sentences
from empathy_lightning.utterance import Utterance


def hold_out_speakers(utterances: Sequence[Utterance], share: float) -> list[Utterance]:
    """Move a share of each corpus's training speakers to validation, or of what they say where they are few.

    Args:
        utterances: With splits.
        share: Of the training part, 0..1; drawn by a hash of the speaker or of the utterance's id, so it never
            changes with the order. Where it is above 0, something of each corpus validates, unless it has only
            one utterance to train on.
    """
    training: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for u in utterances:
        if u.split == "train":
            training[u.corpus][_family(u)].add(u.id)
    drawn: set[tuple[str, str]] = set()
    for corpus, spoken in training.items():
        drawn |= {(corpus, id) for id in _drawn_ids(corpus, spoken, share)}
    held = []
    for u in utterances:
        if u.split == "train" and (u.corpus, u.id) in drawn:
            u = replace(u, split="validation")
        held.append(u)
    return held


def _drawn_ids(corpus: str, spoken: dict[str, set[str]], share: float) -> list[str]:
    """Ids of a corpus that are to validate, of what each speaker has said."""
    said: list[str] = []
    # A share of few speakers would be none of them, or a far larger part.
    if share * len(spoken) >= 1:
        speakers = sorted(spoken, key=lambda speaker: _hash(corpus, speaker))
        for speaker in speakers[: round(share * len(spoken))]:
            said += spoken[speaker]
        return said
    for ids in spoken.values():
        said += ids
    said.sort(key=lambda id: _hash(corpus, id))
    return said[: _some(share, len(said))]


def _some(share: float, count: int) -> int:
    """How many of so many validate: at least one where the share is above 0, and never all."""
    if share <= 0 or not count:
        return 0
    return min(max(1, round(share * count)), count - 1)


def hold_out_sentences(utterances: Sequence[Utterance], share: float) -> list[Utterance]:
    """Move a share of the training sentences to validation, so that the two parts have none in common.

    Args:
        utterances: With splits.
        share: Of the training sentences, 0..1; drawn by a hash of their words. Where it is above 0, at least one
            validates, unless there is only one.
    """
    training = [u for u in utterances if u.split == "train"]
    # By the objects themselves, since records cannot be keys.
    said = dict(zip(map(id, training), sentences(training), strict=True))
    order = sorted(set(said.values()), key=lambda words: _hash("", words))
    drawn = set(order[: _some(share, len(order))])
    held = []
    for u in utterances:
        if said.get(id(u)) in drawn:
            u = replace(u, split="validation")
        held.append(u)
    return held


def _family(utterance: Utterance) -> str:
    """What must not be torn apart: a speaker, else the turns of a session or the pairs of one instruction."""
    return utterance.speaker or utterance.raw_labels.get("instruction") or utterance.session or utterance.id


def _hash(corpus: str, name: str) -> bytes:
    return hashlib.sha256(f"{corpus} {name}".encode()).digest()
