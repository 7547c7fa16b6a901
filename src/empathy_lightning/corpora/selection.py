"""A part of a corpus: some languages, emotions or speakers of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
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
        for utterance in self.corpus.utterances():
            if (
                (self.languages_kept is None or utterance.language in self.languages_kept)
                and (self.emotions_kept is None or utterance.emotion in self.emotions_kept)
                and (self.speakers_kept is None or utterance.speaker in self.speakers_kept)
            ):
                yield utterance

    def utterances(self) -> list[Utterance]:
        """The utterances that are kept; what the corpus left out is told as its own.

        Raises:
            CorpusError: If the corpus is missing.
        """
        kept = list(self.read(Path(self.root)))
        self.skipped = self.corpus.skipped
        return kept
