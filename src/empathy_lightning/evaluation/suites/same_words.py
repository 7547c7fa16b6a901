"""Same words, other feeling: recordings of one speaker who says the same sentence in several emotions.

Made of a manifest of acted speech, such as ``corpora export`` writes of ESD, CREMA-D, RAVDESS, MEAD or JL-corpus, in
which speakers repeat sentences. Of each speaker, sentence and emotion it takes one recording. Where the manifest has
responses (``prepare responses``: what the frozen language model says to the words and the true label), they are the
replies that suit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from empathy_lightning.corpora.corpus import Kind
from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.evaluation.suites.suite import Suite
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance


class SameWords(Suite):
    """One recording of each speaker, sentence and emotion, where a speaker says a sentence in two emotions or more.

    It is the first by id. Of a corpus that states a test split, that alone is taken.

    Args:
        root: The manifest.
    """

    name = "same_words"
    title = "Same words, other feeling: pairs whose replies must differ, which no reader of words passes"
    source = "made here, of acted corpora"
    access = "write its manifest with `corpora export esd FOLDER --out FILE.jsonl` (or cremad, ravdess, mead, jl_corpus), best with `prepare responses`"  # noqa: E501
    licence = "that of the corpus"
    citation = "the corpus's own"
    languages = ("any",)
    scoring = "made here: share of pairs in which each reply fits its own feeling better than the other's"
    measures = ("same_words",)
    criteria = ("cogaudio_conflict", "emotion_consensus")

    def __init__(self, root: str) -> None:
        super().__init__(str(Path(root).parent))
        self.manifest = Path(root)

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the manifest.

        Raises:
            CorpusError: If it cannot be read.
        """
        groups: dict[tuple[str, ...], dict[str, Utterance]] = defaultdict(dict)
        for utterance in self._tested(read_manifest(self.manifest)):
            said = tuple(words(utterance.transcript or ""))
            if not said or utterance.emotion is None:
                lacking = "no transcript" if not said else "no emotion"
                self.skip(utterance.id, lacking, Kind.ASKED)
                continue
            who = (utterance.corpus, utterance.language or "", utterance.speaker or "")
            taken = groups[*who, *said].setdefault(utterance.emotion, utterance)
            if taken is not utterance:
                self.skip(utterance.id, "another recording of the same speaker, words and emotion", Kind.ASKED)
        for feelings in groups.values():
            if len(feelings) < 2:
                self.skip(next(iter(feelings.values())).id, "words in one emotion alone", Kind.ASKED)
                continue
            yield from map(_asked, feelings.values())

    def _tested(self, utterances: list[Utterance]) -> list[Utterance]:
        """Those that take part, by corpus and id; of a corpus with a test split, that split."""
        tested = {u.corpus for u in utterances if u.split == "test"}
        taken = []
        for utterance in sorted(utterances, key=lambda u: (u.corpus, u.id)):
            if utterance.corpus in tested and utterance.split != "test":
                self.skip(utterance.id, "of other splits than test", Kind.ASKED)
            else:
                taken.append(utterance)
        return taken


def _asked(utterance: Utterance) -> Utterance:
    """The question of a recording; the expected response is its reference."""
    references = utterance.references or [utterance.response or ""]
    return replace(
        utterance,
        ability=utterance.emotion,
        references=[reference for reference in references if reference.strip()],
        response=None,
        response_cut=False,
        response_path=None,
        units=None,
    )
