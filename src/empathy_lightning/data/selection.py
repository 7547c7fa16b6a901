"""A part of a corpus: some languages, emotions or speakers of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.packed import Packed, packed
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.errors import meant
from empathy_lightning.utterance import Utterance


class Selection(Corpus):
    """Keep only utterances of a corpus that have one of the values given; None keeps all.

    Args:
        corpus: The corpus.
        languages: BCP 47 tags.
        emotions: In our words, before any protocol merges them.
        speakers: Ids as the corpus gives them.
    """

    name = "selection"

    def __init__(
        self,
        corpus: Corpus,
        languages: Sequence[str] | None = None,
        emotions: Sequence[str] | None = None,
        speakers: Sequence[str] | None = None,
    ) -> None:
        super().__init__(corpus.root)
        self.corpus = corpus
        self.languages_kept = languages
        self.emotions_kept = emotions
        self.speakers_kept = speakers

    def read(self, folder: Path) -> Iterator[Utterance]:
        """The utterances that are kept."""
        utterances = self.corpus.utterances()
        emotions = self.emotions_kept
        if emotions is not None:
            emotions = [emotion_named(word) or word for word in emotions]
        wanted = {"language": self.languages_kept, "emotion": emotions, "speaker": self.speakers_kept}
        chosen = {field: values for field, values in wanted.items() if values is not None}
        for field, values in chosen.items():
            _refuse_unknown(utterances, field, values)
        for utterance in utterances:
            if all(getattr(utterance, field) in values for field, values in chosen.items()):
                yield utterance

    def utterances(self) -> Packed:
        """The utterances that are kept; what the corpus left out is told as its own.

        Raises:
            CorpusError: If the corpus is missing.
        """
        kept = packed(self.read(Path(self.root)))
        self.skipped = self.corpus.skipped
        return kept


def _refuse_unknown(utterances: Sequence[Utterance], field: str, wanted: Sequence[str]) -> None:
    """A value that no utterance has is a slip of the pen."""
    there = {getattr(utterance, field) for utterance in utterances}
    for value in wanted:
        if value not in there:
            known = sorted(str(name) for name in there if name is not None)
            some = ", ".join(known[:12]) or "none at all"
            raise CorpusError(f"no utterance has the {field} {value!r}; there are {some}{meant(value, known)}")
