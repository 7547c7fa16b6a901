"""CaFE: twelve French Canadian actors say six sentences in seven emotions.

Names are ``actor-emotion-intensity-sentence`` (``01-C-1-1``); odd actors are men.
Folders hold the emotion too, but their accents come out broken when the archives are
unpacked on Linux, so only the names are read. Two releases: 48 kHz and 192 kHz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(\d\d)-([A-Z])-(\d)-(\d)")


class CaFE(Corpus):
    """Utterances of CaFE; it states no splits."""

    name = "cafe"
    title = "CaFE, acted Canadian French, 6 sentences, 12 actors"
    source = "https://zenodo.org/records/1478765"
    access = "download it from https://zenodo.org/records/1478765 and unpack it there"
    licence = "CC BY-NC-SA 4.0"
    citation = "Gournay, Lahaie and Lefebvre 2018, A Canadian French emotional speech dataset, MMSys, 399-402"
    languages = ("fr",)
    emotions = {
        "C": "angry", "D": "disgust", "J": "happy", "N": "neutral",
        "P": "fearful", "S": "surprised", "T": "sad",
    }  # fmt: skip
    counts = {
        "angry": 144, "disgust": 144, "happy": 144, "neutral": 72,
        "fearful": 144, "surprised": 144, "sad": 144,
    }  # fmt: skip
    folders = ("CaFE_48k", "")
    sentences = {
        "1": "Un cheval fou dans mon jardin",
        "2": "Deux ânes aigris au pelage brun",
        "3": "Trois cygnes aveugles au bord du lac",
        "4": "Quatre vieilles truies éléphantesques",
        "5": "Cinq pumas fiers et passionnés",
        "6": "Six ours aimants domestiqués",
    }

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names."""
        for path in self.audio(folder, ".wav", ".flac", ".aiff", ".aif"):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of CaFE")
                continue
            actor, emotion, intensity, sentence = match.groups()
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=self.sentences.get(sentence),
                language="fr",
                speaker=actor,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "intensity": intensity},
            )
