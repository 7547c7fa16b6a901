"""ShEMO: 87 Persian speakers from radio plays, six emotions.

``F14A09.wav``: gender, speaker, emotion, take; an F in the middle is fear, in front it is
female. Transcripts are ``.ort`` files in UTF-8 with a byte order mark and direction marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"([MF]\d\d)([A-Z])(\d\d)")
_DIRECTION_MARKS = re.compile("[\u200e\u200f\ufeff]")


class ShEMO(Corpus):
    """Utterances of ShEMO; it states no splits."""

    name = "shemo"
    title = "ShEMO, semi-natural Persian, 87 speakers"
    source = "https://github.com/mansourehk/ShEMO"
    access = "download it as https://github.com/mansourehk/ShEMO says and unpack male, female and transcript there"
    licence = "free for academic use"
    citation = "Mohamad Nezami, Lou and Karami 2019, Language Resources and Evaluation 53: 1-16"
    languages = ("fa",)
    emotions = {"A": "angry", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad", "W": "surprised"}
    counts = {"angry": 1059, "fearful": 38, "happy": 201, "neutral": 1028, "sad": 449, "surprised": 225}
    folders = ("ShEMO", "")
    unconfirmed = "the licence and the counts per emotion are from general knowledge; copies with 2838 files are about"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names and the transcripts of the same stem."""
        texts = {path.stem: path for path in self.files(folder, "*.ort")}
        stems = set()
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of ShEMO")
                continue
            stems.add(path.stem)
            text, words = texts.get(path.stem), ""
            if text is None:
                self.skip(path, "label only: no transcript", Kind.KEPT)
            else:
                words = _DIRECTION_MARKS.sub("", decode(text, "cp1256")).strip()
            speaker, emotion, take = match.groups()
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=words or None,
                language="fa",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "take": take},
            )
        for stem in sorted(texts.keys() - stems):
            self.skip(texts[stem], "no audio file")
