"""Who trains and who tests.

A protocol takes the utterances of one or more corpora, merges and filters their
emotions and gives each a split. :data:`~empathy_lightning.data.published.PROTOCOLS`
names the published ones; for others compose the classes, in Python or in YAML.
"""

from __future__ import annotations

import hashlib
import random
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from heapq import nsmallest
from typing import Literal

from empathy_lightning.corpora.corpus import CorpusError
from empathy_lightning.data.held_out import hold_out_sentences, hold_out_speakers
from empathy_lightning.data.packed import each, packed
from empathy_lightning.data.sentences import sentences
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import meant
from empathy_lightning.splits import SPLITS, split_named
from empathy_lightning.utterance import Utterance


class Protocol:
    """The corpora's own splits; also the base of the other protocols.

    Args:
        emotions: Categories kept; None keeps all utterances, those without a label too.
        merge: Emotions that count as another one, for example ``{"excited": "happy"}``.
        citation: Where the protocol was published.
        expected: Published number of utterances by split, checked by ``corpora check``.
    """

    def __init__(
        self,
        emotions: Sequence[str] | None = None,
        merge: Mapping[str, str] | None = None,
        citation: str = "",
        expected: Mapping[str, int] | None = None,
    ) -> None:
        self.emotions = None if emotions is None else tuple(map(_name, emotions))
        self.merge = {_name(word): _name(other) for word, other in (merge or {}).items()}
        self.citation = citation
        self.expected = dict(expected or {})

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """The split of each utterance, None for those that the protocol leaves out."""
        return [split for (split,) in each(utterances, "split")]

    def __call__(self, utterances: Sequence[Utterance]) -> Sequence[Utterance]:
        """The utterances that take part, each with its split; the given ones are not changed."""
        merged = map(self._merged, utterances)
        kept = packed(u for u in merged if self.emotions is None or u.emotion in self.emotions)
        divided = zip(kept, self.splits(kept), strict=True)
        return packed(replace(u, split=split) for u, split in divided if split is not None)

    def hold_out(self, utterances: Sequence[Utterance], share: float) -> Sequence[Utterance]:
        """The utterances after the split, of which a share of the training part validates; speakers stay together.

        See :func:`~empathy_lightning.data.held_out.hold_out_speakers`.
        """
        return hold_out_speakers(utterances, share)

    def _merged(self, utterance: Utterance) -> Utterance:
        votes: dict[str, float] = defaultdict(float)
        for name, share in utterance.emotion_votes.items():
            votes[self.merge.get(name, name)] += share
        emotion = self.merge.get(utterance.emotion, utterance.emotion) if utterance.emotion else None
        return replace(utterance, emotion=emotion, emotion_votes=dict(votes))


def _name(emotion: str) -> str:
    return emotion_named(emotion) or emotion


def _split(word: str) -> str:
    split = split_named(word)
    if split is None:
        raise CorpusError(f"protocol: no split is named {word!r}; there are {', '.join(SPLITS)}{meant(word, SPLITS)}")
    return split


class Whole(Protocol):
    """Everything goes to one split.

    Args:
        split: ``"train"`` or ``"test"``.
        emotions: As in :class:`Protocol`.
        merge: As in :class:`Protocol`.
    """

    def __init__(
        self, split: str, emotions: Sequence[str] | None = None, merge: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(emotions, merge)
        self.split = _split(split)

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """The same for all."""
        return [self.split] * len(utterances)


class LeaveOneOut(Protocol):
    """One session or speaker tests, perhaps the next one validates, all others train.

    Args:
        unit: What is left out.
        fold: Which one, counted from 0 in alphabetical order; taken modulo their number.
        validation: Whether the next one validates.
        emotions: As in :class:`Protocol`.
        merge: As in :class:`Protocol`.
        citation: As in :class:`Protocol`.
        expected: As in :class:`Protocol`.
    """

    def __init__(
        self,
        unit: Literal["session", "speaker"] = "speaker",
        fold: int = 0,
        validation: bool = True,
        emotions: Sequence[str] | None = None,
        merge: Mapping[str, str] | None = None,
        citation: str = "",
        expected: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(emotions, merge, citation, expected)
        self.unit = unit
        self.fold = fold
        self.validation = validation

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """By unit; a unit of one corpus is not that of the same name in another.

        Raises:
            CorpusError: If an utterance has no such unit, since its speaker might then be in two splits.
        """
        units = list(each(utterances, "corpus", self.unit))
        for index, (corpus, unit) in enumerate(units):
            if unit is None:
                named = f"{corpus}: {utterances[index].id}"
                raise CorpusError(f"{named} has no {self.unit}, so no {self.unit} can be left out")
        order = sorted(set(units))
        place = {unit: (index - self.fold) % len(order) for index, unit in enumerate(order)}
        names = {0: "test", 1: "validation" if self.validation else "train"}
        return [names.get(place[unit], "train") for unit in units]


class SentenceSplit(Protocol):
    """Sentences are split, so that no sentence is in both parts; every speaker is in both.

    Args:
        train: Share of the sentences that train.
        seed: Of the draw.
        emotions: As in :class:`Protocol`.
        citation: As in :class:`Protocol`.
        language: Only utterances in this language take part; None takes all.
    """

    def __init__(
        self,
        train: float = 0.7,
        seed: int = 0,
        emotions: Sequence[str] | None = None,
        citation: str = "",
        language: str | None = None,
    ) -> None:
        super().__init__(emotions, None, citation)
        self.train = train
        self.seed = seed
        self.language = language

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """By the number that the corpus gives a sentence and by its words, whatever their case and punctuation."""
        if self.language is None:
            return list(self._by_sentence(utterances))
        own = iter(self._by_sentence(packed(utterances).where("language", self.language)))
        return [next(own) if language == self.language else None for (language,) in each(utterances, "language")]

    def hold_out(self, utterances: Sequence[Utterance], share: float) -> Sequence[Utterance]:
        """As in :class:`Protocol`, but sentences stay together."""
        return hold_out_sentences(utterances, share)

    def _by_sentence(self, utterances: Sequence[Utterance]) -> list[str]:
        said = sentences(utterances)
        order = sorted(set(said))
        random.Random(self.seed).shuffle(order)
        training = set(order[: round(self.train * len(order))])
        return ["train" if words in training else "test" for words in said]


class RandomSubset(Protocol):
    """A random part of each official split, by a recorded seed.

    Args:
        sizes: Number of utterances by official split; others are left out.
        seed: Of the draw; it depends on the ids alone, not on their order.
        emotions: As in :class:`Protocol`.
        citation: As in :class:`Protocol`.
    """

    def __init__(
        self, sizes: Mapping[str, int], seed: int = 0, emotions: Sequence[str] | None = None, citation: str = ""
    ) -> None:
        self.sizes = {_split(name): size for name, size in sizes.items()}
        super().__init__(emotions, None, citation, self.sizes)
        self.seed = seed

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """The first of each split in the order of a hash of seed and id."""
        chosen: set[tuple[str, str]] = set()
        for split, size in self.sizes.items():
            members = ((corpus, id) for corpus, id, own in each(utterances, "corpus", "id", "split") if own == split)
            chosen.update(nsmallest(size, members, key=self._draw))
        rows = each(utterances, "corpus", "id", "split")
        return [split if (corpus, id) in chosen else None for corpus, id, split in rows]

    def _draw(self, name: tuple[str, str]) -> bytes:
        corpus, id = name
        return hashlib.sha256(f"{self.seed} {corpus} {id}".encode()).digest()


class PerCorpus(Protocol):
    """Another protocol for each corpus of a mixture.

    Args:
        protocols: By name of the corpus; corpora without one are left out.
        emotions: As in :class:`Protocol`, for all of them.
        merge: As in :class:`Protocol`, for all of them.
        citation: As in :class:`Protocol`.
    """

    def __init__(
        self,
        protocols: Mapping[str, Protocol],
        emotions: Sequence[str] | None = None,
        merge: Mapping[str, str] | None = None,
        citation: str = "",
    ) -> None:
        super().__init__(emotions, merge, citation)
        self.protocols = dict(protocols)
        for name, protocol in self.protocols.items():
            if protocol.merge or protocol.emotions is not None:
                raise CorpusError(f"{name}: give emotions and merge to PerCorpus, not to the protocols in it")

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """Each corpus by its own protocol."""
        utterances = packed(utterances)
        members = _by_corpus(utterances)
        if members and not members.keys() & self.protocols.keys():
            read, known = (", ".join(sorted(names)) for names in (members, self.protocols))
            raise CorpusError(
                f"the protocol knows none of the corpora ({read[:60]}), only {known[:130]}; "
                f"give another one, or null for the corpora's own splits{meant(min(members), self.protocols)}"
            )
        splits: list[str | None] = [None] * len(utterances)
        for corpus, indices in members.items():
            if corpus in self.protocols:
                own = self.protocols[corpus].splits(utterances.take(indices))
                for index, split in zip(indices, own, strict=True):
                    splits[index] = split
        return splits

    def hold_out(self, utterances: Sequence[Utterance], share: float) -> Sequence[Utterance]:
        """As in :class:`Protocol`, each corpus by its own protocol."""
        utterances = packed(utterances)
        splits = [split for (split,) in each(utterances, "split")]
        for corpus, indices in _by_corpus(utterances).items():
            if corpus in self.protocols:
                own = self.protocols[corpus].hold_out(utterances.take(indices), share)
                for index, (split,) in zip(indices, each(own, "split"), strict=True):
                    splits[index] = split
        return packed(replace(u, split=split) for u, split in zip(utterances, splits, strict=True))


def _by_corpus(utterances: Sequence[Utterance]) -> dict[str, array[int]]:
    """Places of each corpus's utterances."""
    members: dict[str, array[int]] = defaultdict(lambda: array("l"))
    for index, (corpus,) in enumerate(each(utterances, "corpus")):
        members[corpus].append(index)
    return members
