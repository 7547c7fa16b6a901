"""TESS: two women say 200 words in seven emotions.

File names hold speaker, word and emotion (``OAF_back_angry.wav``); ``ps`` is pleasant
surprise. One file is spelt ``OA_``; folder names vary and are not read. The public copy
nests its folder twice, and most files have the odd rate of 24 414 Hz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(OAF?|YAF)_([a-z]+)_([a-z]+)", re.IGNORECASE)


class TESS(Corpus):
    """Utterances of TESS; it states no splits."""

    name = "tess"
    title = "TESS, acted Canadian English, 200 words, 2 actresses"
    source = "https://doi.org/10.5683/SP2/E8H2MF"
    access = "download it from https://doi.org/10.5683/SP2/E8H2MF and unpack it there"
    licence = "CC BY-NC-ND 4.0"
    citation = "Pichora-Fuller and Dupuis 2020, Borealis, doi:10.5683/SP2/E8H2MF"
    languages = ("en",)
    emotions = {
        "angry": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy",
        "neutral": "neutral", "ps": "surprised", "sad": "sad",
    }  # fmt: skip
    counts = {
        "angry": 400, "disgust": 400, "fearful": 400, "happy": 400,
        "neutral": 400, "surprised": 400, "sad": 400,
    }  # fmt: skip
    folders = ("TESS Toronto emotional speech set data", "")

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names."""
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of TESS")
                continue
            speaker = "YAF" if match[1].upper() == "YAF" else "OAF"
            word, emotion = match[2].lower(), match[3].lower()
            yield Utterance(
                id=f"{speaker}_{word}_{emotion}",
                corpus=self.name,
                path=str(path),
                transcript=f"Say the word {word}",
                language="en",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion},
            )
