"""JL-corpus: four New Zealand English speakers, five primary and five secondary emotions.

``female1_angry_10a_1.wav`` has speaker, emotion, sentence and take; a ``.txt`` of the same
stem holds the sentence. Blanks and parentheses in the folder names are official.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"((?:fe)?male\d+)_([a-z]+)_(\d+[ab])_(\d+)", re.IGNORECASE)


class JLCorpus(Corpus):
    """Utterances of JL-corpus; it states no splits."""

    name = "jl_corpus"
    title = "JL-corpus, acted New Zealand English, 4 speakers, ten emotions"
    source = "https://www.kaggle.com/datasets/tli725/jl-corpus"
    access = "download it from https://www.kaggle.com/datasets/tli725/jl-corpus and unpack it there"
    licence = "CC0 1.0, as stated on Kaggle"
    citation = "James, Tian and Watson 2018, An open source emotional speech corpus for HRI, Interspeech"
    languages = ("en",)
    emotions = {
        "angry": "angry", "sad": "sad", "neutral": "neutral", "happy": "happy", "excited": "excited",
        "anxious": "anxious", "apologetic": "apologetic", "assertive": "assertive", "concerned": "concerned",
        "encouraging": "encouraging",
    }  # fmt: skip
    counts = {
        "angry": 240, "sad": 240, "neutral": 240, "happy": 240, "excited": 240,
        "anxious": 240, "apologetic": 240, "assertive": 240, "concerned": 240, "encouraging": 240,
    }  # fmt: skip
    folders = ("Raw JL corpus (unchecked and unannotated)", "")
    unconfirmed = "the licence"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names and the sentences beside them."""
        texts = {path.stem: path for path in self.files(folder, "*.txt") if _NAME.fullmatch(path.stem)}
        stems = set()
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of JL-corpus")
                continue
            stems.add(path.stem)
            text, words = texts.get(path.stem), ""
            if text is None:
                self.skip(path, "label only: no .txt with its sentence", Kind.KEPT)
            else:
                words = decode(text, "latin-1").strip()
            speaker, emotion, sentence, take = match.groups()
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=words or None,
                language="en",
                speaker=speaker.lower(),
                emotion=self.emotion(emotion.lower(), path),
                raw_labels={"emotion": emotion.lower(), "sentence": sentence, "take": take},
            )
        for stem in sorted(texts.keys() - stems):
            self.skip(texts[stem], "no audio file")
