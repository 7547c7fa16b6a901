"""SAVEE: four men say 15 sentences in each of six emotions and 30 neutrally.

Names are a one- or two-letter emotion and a number (``sa01``), below a folder per
speaker, or with the speaker in front (``DC_sa01``, ``DCsa01``) in flat copies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_SPEAKERS = ("DC", "JE", "JK", "KL")
_NAME = re.compile(r"(?:(DC|JE|JK|KL)_?)?([a-z]{1,2})(\d\d)")


class SAVEE(Corpus):
    """Utterances of SAVEE; it states no splits."""

    name = "savee"
    title = "SAVEE, acted British English, 4 men"
    source = "http://kahlan.eps.surrey.ac.uk/savee/"
    access = "register at http://kahlan.eps.surrey.ac.uk/savee/ and unpack AudioData there"
    licence = "free for research after registration"
    citation = "Jackson and Haq 2014, Surrey Audio-Visual Expressed Emotion (SAVEE) Database, University of Surrey"
    languages = ("en",)
    emotions = {
        "a": "angry", "d": "disgust", "f": "fearful", "h": "happy",
        "n": "neutral", "sa": "sad", "su": "surprised",
    }  # fmt: skip
    counts = {
        "angry": 60, "disgust": 60, "fearful": 60, "happy": 60,
        "neutral": 120, "sad": 60, "surprised": 60,
    }  # fmt: skip
    folders = ("AudioData", "ALL", "")

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names, and the folder for the speaker where the name lacks it."""
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            speaker = match and (match[1] or path.parent.name)
            if match is None or speaker not in _SPEAKERS:
                self.skip(path, "neither its name nor its folder is one of SAVEE")
                continue
            yield Utterance(
                id=f"{speaker}_{match[2]}{match[3]}",
                corpus=self.name,
                path=str(path),
                language="en",
                speaker=speaker,
                emotion=self.emotion(match[2], path),
                raw_labels={"emotion": match[2]},
            )
