"""MEAD: talking faces of English actors, eight emotions at three levels; only the audio is read.

Laid out as ``M003/audio/angry/level_1/001.m4a``; neutral has level 1 only and numbers repeat
from folder to folder. soundfile does not decode m4a: a WAV file of the same stem beside it,
if there is one, is taken instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_PATH = re.compile(r".*?([MW]\d{3})/[^/]+/([a-z]+)/level_(\d)/(\d+)")


class MEAD(Corpus):
    """Utterances of MEAD; it states no splits for speech and has no transcripts beside the audio."""

    name = "mead"
    title = "MEAD, acted English, eight emotions at three levels"
    source = "https://wywu.github.io/projects/MEAD/MEAD.html"
    access = "ask for it at https://wywu.github.io/projects/MEAD/MEAD.html, unpack each audio.tar into its speaker's folder and convert the m4a files to WAV"  # noqa: E501
    licence = "non-commercial research"
    citation = "Wang et al. 2020, MEAD: a large-scale audio-visual dataset for emotional talking-face generation, ECCV"
    languages = ("en",)
    emotions = {
        "angry": "angry", "contempt": "contempt", "disgusted": "disgust", "fear": "fearful",
        "happy": "happy", "neutral": "neutral", "sad": "sad", "surprised": "surprised",
    }  # fmt: skip
    folders = ("MEAD", "")
    unconfirmed = "the licence; the layout is that of public manifests, not of files seen"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read speaker, emotion and level from the folders."""
        found = sorted(self.audio(folder, ".m4a", ".wav", ".flac"), key=lambda path: path.suffix.lower() != ".m4a")
        for path in {path.with_suffix(""): path for path in found}.values():
            match = _PATH.fullmatch(path.with_suffix("").as_posix())
            if match is None:
                self.skip(path, "not <speaker>/audio/<emotion>/level_<n>/<number>")
                continue
            speaker, emotion, level, number = match.groups()
            yield Utterance(
                id=f"{speaker}_{emotion}_{level}_{number}",
                corpus=self.name,
                path=str(path),
                language="en",
                speaker=speaker,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "level": level},
            )
