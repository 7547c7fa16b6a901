"""Which utterances say the same sentence."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from empathy_lightning.data.packed import each
from empathy_lightning.utterance import Utterance


def words_of(transcript: str) -> str:
    """A transcript without case, punctuation and spacing, to compare it with others."""
    text = unicodedata.normalize("NFKC", transcript).casefold().replace("'", "").replace("\u2019", "")
    letters = [letter if letter.isalnum() else " " for letter in text]
    return " ".join("".join(letters).split())


def sentences(utterances: Sequence[Utterance]) -> list[str]:
    """One name for each utterance's sentence: equal where the corpus gives it one number, or the words are equal."""
    keys: list[tuple[str, ...]] = []
    names: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for corpus, id, transcript, language, labels in each(
        utterances, "corpus", "id", "transcript", "language", "raw_labels"
    ):
        words = words_of(transcript or "") or id
        number = labels.get("sentence")
        key = (words,) if number is None else (corpus, language or "", number)
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
