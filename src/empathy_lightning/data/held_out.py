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
        # A share of few speakers would be none of them, or a far larger part.
        whole = share * len(spoken) >= 1
        ids = sorted((id for said in spoken.values() for id in said), key=lambda id: _hash(corpus, id))
        chosen = ids[: min(max(1, round(share * len(ids))), len(ids) - 1) if share > 0 else 0]
        if whole:
            speakers = sorted(spoken, key=lambda speaker: _hash(corpus, speaker))[: round(share * len(spoken))]
            chosen = [id for speaker in speakers for id in spoken[speaker]]
        drawn |= {(corpus, id) for id in chosen}
    return [
        replace(u, split="validation") if u.split == "train" and (u.corpus, u.id) in drawn else u for u in utterances
    ]


def hold_out_sentences(utterances: Sequence[Utterance], share: float) -> list[Utterance]:
    """Move a share of the training sentences to validation, so that the two parts have none in common.

    Args:
        utterances: With splits.
        share: Of the training sentences, 0..1; drawn by a hash of their words. Where it is above 0, at least one
            validates, unless there is only one.
    """
    training = [u for u in utterances if u.split == "train"]
    said = dict(zip(map(id, training), sentences(training), strict=True))
    order = sorted(set(said.values()), key=lambda words: _hash("", words))
    number = max(1, round(share * len(order))) if share > 0 else 0
    drawn = set(order[: min(number, max(0, len(order) - 1))])
    return [replace(u, split="validation") if said.get(id(u)) in drawn else u for u in utterances]


def _family(utterance: Utterance) -> str:
    """What must not be torn apart: a speaker, else the turns of a session or the pairs of one instruction."""
    return utterance.speaker or utterance.raw_labels.get("instruction") or utterance.session or utterance.id


def _hash(corpus: str, name: str) -> bytes:
    return hashlib.sha256(f"{corpus} {name}".encode()).digest()
