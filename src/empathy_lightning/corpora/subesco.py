"""SUBESCO: twenty Bangla speakers say ten sentences in seven emotions, five times.

``F_01_OISHI_S_1_ANGRY_1.wav``: gender, number, name, sentence, emotion, take. Numbers repeat
across genders, so the speaker is gender and number. Rates are mixed: 44.1 and 48 kHz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"([MF])_(\d+)_([^_]+)_S_(\d+)_([A-Z]+)_(\d+)")


class SUBESCO(Corpus):
    """Utterances of SUBESCO; it states no splits and has no transcripts."""

    name = "subesco"
    title = "SUBESCO, acted Bangla, 10 sentences, 20 speakers"
    source = "https://zenodo.org/records/4526477"
    access = "download it from https://zenodo.org/records/4526477 and unpack it there"
    licence = "CC BY 4.0"
    citation = "Sultana et al. 2021, PLoS ONE 16(4): e0250173"
    languages = ("bn",)
    emotions = {
        "ANGRY": "angry", "DISGUST": "disgust", "FEAR": "fearful", "HAPPY": "happy",
        "NEUTRAL": "neutral", "SAD": "sad", "SURPRISE": "surprised",
    }  # fmt: skip
    counts = {
        "angry": 1000, "disgust": 1000, "fearful": 1000, "happy": 1000,
        "neutral": 1000, "sad": 1000, "surprised": 1000,
    }  # fmt: skip
    folders = ("SUBESCO", "")
    unconfirmed = "the licence"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names."""
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of SUBESCO")
                continue
            gender, number, _, sentence, emotion, take = match.groups()
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                language="bn",
                speaker=gender + number,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "sentence": sentence, "take": take},
            )
