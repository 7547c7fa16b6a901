"""ASVP-ESD: emotional speech and other vocal sounds, collected from films and the web.

``03-01-06-01-02-12-02-01-01-16.wav``: modality, channel (01 speech, 02 other sounds),
emotion, intensity, statement, actor (even ones male), age, source, language, likeness. The
last fields may be missing; a final 77 means noise and 66 several voices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"\d\d(?:-\d+){5,}")
_LANGUAGES = {"01": "zh", "02": "en", "04": "fr"}


class ASVPESD(Corpus):
    """Utterances of ASVP-ESD; it states no splits and has no transcripts.

    Args:
        root: Folder that holds ``ASVP-ESD-Update`` or ``Audio``.
        other_sounds: Whether laughter, crying and the like are read beside speech.
    """

    name = "asvp_esd"
    title = "ASVP-ESD, speech and other vocal sounds from films and the web, several languages"
    source = "https://zenodo.org/records/7132783"
    access = "download ASVP-ESD-Update.zip from https://zenodo.org/records/7132783 and unpack it there"
    licence = "CC BY 4.0"
    citation = "Landry, He, Yan and Li 2020, ASVP-ESD: a dataset and its benchmark, Global Scientific Journals 8"
    languages = ("zh", "en", "fr")
    emotions = {
        "01": "bored", "02": "neutral", "03": "happy", "04": "sad", "05": "angry", "06": "fearful", "07": "disgust",
        "08": "surprised", "09": "excited", "10": "other", "11": "other", "12": "other", "13": "other",
    }  # fmt: skip
    folders = ("ASVP-ESD-Update/Audio", "Audio", "")
    unconfirmed = (
        "the whole layout is from the authors' page, not from files seen; public code numbers the languages"
        " differently; actor 00 is taken as unknown; the licence"
    )

    def __init__(self, root: str, other_sounds: bool = False) -> None:
        super().__init__(root)
        self.other_sounds = other_sounds

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names."""
        for path in self.audio(folder):
            if _NAME.fullmatch(path.stem) is None:
                self.skip(path, "its name is not one of ASVP-ESD")
                continue
            fields = path.stem.split("-")
            _, channel, emotion, intensity, _, actor = fields[:6]
            if channel != "01" and not self.other_sounds:
                continue
            raw = {"emotion": emotion, "intensity": intensity, "channel": channel}
            if fields[-1] in ("66", "77"):
                raw["quality"] = {"66": "several voices", "77": "noise"}[fields[-1]]
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                language=_LANGUAGES.get(fields[8]) if len(fields) > 8 else None,
                speaker=None if int(actor) == 0 else actor,
                emotion=self.emotion(emotion, path),
                raw_labels=raw,
            )
