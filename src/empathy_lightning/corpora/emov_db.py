"""EmoV-DB: four English speakers read CMU ARCTIC sentences in five emotions.

The speaker is in the folder (``bea_Amused/`` or ``bea/Amused/``), the emotion in front of
the file name (``amused_1-15_0003.wav``; its words differ from the folders'), and the last
four digits number the "a" sentences of ``cmuarctic.data``. Rates are mixed: 16 and 44.1 kHz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance

_SPEAKERS = ("bea", "jenie", "josh", "sam")
_NAME = re.compile(r"([a-z]+)_.*?(\d{4})", re.IGNORECASE)
_SENTENCE = re.compile(r"\(\s*arctic_a(\d{4})\s+\"(.*)\"\s*\)")


class EmoVDB(Corpus):
    """Utterances of EmoV-DB; it states no splits, and josh has no anger and no disgust."""

    name = "emov_db"
    title = "EmoV-DB, acted English, CMU ARCTIC sentences, 4 speakers"
    source = "https://www.openslr.org/115/"
    access = (
        "download it from https://www.openslr.org/115/ and unpack it there, with cmuarctic.data for the transcripts"
    )
    licence = "its own, non-commercial"
    citation = "Adigwe et al. 2018, The Emotional Voices Database, arXiv:1806.09514"
    languages = ("en",)
    emotions = {
        "amused": "amused", "anger": "angry", "angry": "angry", "disgust": "disgust", "disgusted": "disgust",
        "neutral": "neutral", "sleepiness": "sleepy", "sleepy": "sleepy",
    }  # fmt: skip
    folders = ("EmoV-DB", "EmoV-DB_sorted", "")

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the names and folders, and the sentences where their file lies anywhere below."""
        sentences: dict[str, str] = {}
        for table in self.files(folder, "cmuarctic.data"):
            sentences |= dict(_SENTENCE.findall(decode(table, "latin-1")))
        if not sentences:
            self.skip(folder / "cmuarctic.data", "label only: not there, so there are no transcripts", Kind.KEPT)
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            parts = path.relative_to(folder.parent).parts[-2::-1]
            words = [part.lower().partition("_")[0] for part in parts]
            speaker = next((word for word in words if word in _SPEAKERS), None)
            if match is None or speaker is None:
                self.skip(path, "neither its name nor its folder is one of EmoV-DB")
                continue
            emotion = match[1].lower()
            yield Utterance(
                id=f"{speaker}_{path.stem}",
                corpus=self.name,
                path=str(path),
                transcript=sentences.get(match[2]),
                language="en",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "sentence": match[2]},
            )
