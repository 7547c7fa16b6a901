"""Who trains and who tests: the split protocols of the papers and of the field, as data.

A protocol takes the utterances of one or more corpora, merges and filters their
emotions and gives each a split. :data:`PROTOCOLS` names the published ones; for
others compose the classes, in Python or in YAML.
"""

from __future__ import annotations

import hashlib
import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from empathy_lightning.corpora.corpus import CorpusError, decode
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.records import SPLITS, split_named
from empathy_lightning.utterance import EMOTIONS, Utterance

FOUR = ("neutral", "happy", "sad", "angry")


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
        return [u.split for u in utterances]

    def __call__(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances that take part, each with its split; the given ones are not changed."""
        merged = [self._merged(u) for u in utterances]
        kept = [u for u in merged if self.emotions is None or u.emotion in self.emotions]
        return [replace(u, split=split) for u, split in zip(kept, self.splits(kept), strict=True) if split is not None]

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
        raise CorpusError(f"protocol: no split is named {word!r}; there are {', '.join(SPLITS)}")
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
        units = [(u.corpus, getattr(u, self.unit)) for u in utterances]
        for utterance, (_, unit) in zip(utterances, units, strict=True):
            if unit is None:
                raise CorpusError(
                    f"{utterance.corpus}: {utterance.id} has no {self.unit}, so no {self.unit} can be left out"
                )
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
        if self.language is not None:
            own = [u for u in utterances if u.language == self.language]
            of_own = dict(zip(map(id, own), self._by_sentence(own), strict=True))
            return [of_own.get(id(u)) for u in utterances]
        return list(self._by_sentence(utterances))

    def _by_sentence(self, utterances: Sequence[Utterance]) -> list[str]:
        said = sentences(utterances)
        order = sorted(set(said))
        random.Random(self.seed).shuffle(order)
        training = set(order[: round(self.train * len(order))])
        return ["train" if words in training else "test" for words in said]


def words_of(transcript: str) -> str:
    """A transcript without case, punctuation and spacing, to compare it with others."""
    text = unicodedata.normalize("NFKC", transcript).casefold().replace("'", "").replace("\u2019", "")
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


def sentences(utterances: Sequence[Utterance]) -> list[str]:
    """One name for each utterance's sentence: equal where the corpus gives it one number, or the words are equal."""
    keys: list[tuple[str, ...]] = []
    names: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for utterance in utterances:
        words = words_of(utterance.transcript or "") or utterance.id
        number = utterance.raw_labels.get("sentence")
        key = (words,) if number is None else (utterance.corpus, utterance.language or "", number)
        keys.append(key)
        names[key].add(words)
    # Numbers that share their words are one sentence, and so are all spellings of one number.
    leader: dict[str, str] = {}

    def _first(words: str) -> str:
        while leader.get(words, words) != words:
            words = leader[words]
        return words

    for spellings in names.values():
        first, *others = sorted(map(_first, spellings))
        for other in others:
            leader[other] = first
    return [_first(min(names[key])) for key in keys]


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
            members = sorted((u for u in utterances if u.split == split), key=self._draw)
            chosen |= {(u.corpus, u.id) for u in members[:size]}
        return [u.split if (u.corpus, u.id) in chosen else None for u in utterances]

    def _draw(self, utterance: Utterance) -> bytes:
        return hashlib.sha256(f"{self.seed} {utterance.corpus} {utterance.id}".encode()).digest()


class EmoBoxFolds(Protocol):
    """The folds of an EmoBox checkout, applied to utterances of our own parsers.

    Args:
        folder: ``data/<corpus>`` of the checkout.
        fold: Counted from 1, as there.
        emotions: As in :class:`Protocol`.
        merge: As in :class:`Protocol`.
    """

    def __init__(
        self, folder: str, fold: int = 1, emotions: Sequence[str] | None = None, merge: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(emotions, merge, "Ma et al. 2024, EmoBox, Interspeech")
        self.folder = folder
        self.fold = fold

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """By the stem of the audio file and its folder's name, which tell it in all of EmoBox's corpora.

        Raises:
            CorpusError: If the fold's lists are not there.
        """
        folder = Path(self.folder) / f"fold_{self.fold}"
        lists = {s: sorted(folder.glob(f"*_{n}_fold_{self.fold}.jsonl")) for s, n in _EMOBOX.items()}
        if not lists["train"] or not lists["test"]:
            raise CorpusError(f"no EmoBox fold {self.fold} in {self.folder}; check out github.com/emo-box/EmoBox")
        split_of: dict[tuple[str, str], str] = {}
        for split, files in lists.items():
            for file in files:
                split_of |= dict.fromkeys(_listed(file), split)
        return [split_of.get((Path(u.path).parent.name, Path(u.path).stem)) for u in utterances]


def _listed(file: Path) -> list[tuple[str, str]]:
    """Folder and stem of the files that a list of EmoBox names."""
    names = []
    for number, line in enumerate(decode(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            path = Path(json.loads(line)["wav"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{file}, line {number}: not a row of EmoBox with wav ({error!r})") from None
        names.append((path.parent.name, path.stem))
    return names


_EMOBOX = {"train": "train", "validation": "valid", "test": "test"}


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
        members: dict[str, list[int]] = defaultdict(list)
        for index, utterance in enumerate(utterances):
            members[utterance.corpus].append(index)
        if members and not members.keys() & self.protocols.keys():
            read, known = (", ".join(sorted(names)) for names in (members, self.protocols))
            raise CorpusError(
                f"the protocol knows none of the corpora ({read[:60]}), only {known[:130]}; "
                "give another one, or null for the corpora's own splits"
            )
        splits: list[str | None] = [None] * len(utterances)
        for corpus, indices in members.items():
            if corpus in self.protocols:
                own = self.protocols[corpus].splits([utterances[i] for i in indices])
                for index, split in zip(indices, own, strict=True):
                    splits[index] = split
        return splits


_TRAIN, _TEST = Whole("train"), Whole("test")
_IEMOCAP_5 = LeaveOneOut("session", fold=4, validation=False)
_RE_LLM = "RE-LLM, arXiv 2602.10716, section on data"

PROTOCOLS: dict[str, Protocol] = {
    "official": Protocol(citation="the corpora's own splits"),
    "leave-one-session-out": LeaveOneOut("session", citation="customary for IEMOCAP"),
    "leave-one-speaker-out": LeaveOneOut("speaker", citation="customary for small acted corpora"),
    "iemocap-four": LeaveOneOut(
        "session", emotions=FOUR, merge={"excited": "happy"}, citation="customary: four classes, 5,531 utterances"
    ),
    "re-llm-iemocap": LeaveOneOut(
        "session", 4, False, FOUR, {"excited": "happy"}, _RE_LLM, {"train": 4_290, "test": 1_241}
    ),
    "re-llm-esd": SentenceSplit(0.7, 0, FOUR, _RE_LLM, "en"),
    "re-llm-msp-podcast": RandomSubset({"train": 4_290, "test": 1_245}, 0, EMOTIONS, _RE_LLM),
    "freezeempath": PerCorpus(
        {
            **dict.fromkeys(("mead", "asvp_esd", "cremad", "subesco", "m3ed", "emozionalmente", "esd", "mafw"), _TRAIN),
            **dict.fromkeys(("ravdess", "casia", "cafe", "resd"), _TEST),
            "iemocap": _IEMOCAP_5,
            "meld": Protocol(),
        },
        emotions=EMOTIONS,
        merge={"excited": "happy"},
        citation="FreezeEmpath, arXiv 2604.18159: ten corpora train, six test sets",
    ),
}
"""Published protocols by name."""


def protocol_named(name: str) -> Protocol:
    """A published protocol.

    Raises:
        CorpusError: If there is none of that name; the message lists them.
    """
    if name not in PROTOCOLS:
        raise CorpusError(f"no protocol named {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def hold_out(utterances: Sequence[Utterance], share: float) -> list[Utterance]:
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


def _family(utterance: Utterance) -> str:
    """What must not be torn apart: a speaker, else the turns of a session or the pairs of one instruction."""
    return utterance.speaker or utterance.raw_labels.get("instruction") or utterance.session or utterance.id


def _hash(corpus: str, name: str) -> bytes:
    return hashlib.sha256(f"{corpus} {name}".encode()).digest()
