"""Recordings of the voice that a bot is to speak with, and the words said in them.

Any folder of audio files. The words of ``a/b.wav`` stand in ``a/b.txt``, or in a ``metadata.csv`` in the form of
LJSpeech's: a line ``b|words`` (a third field, the words spelt out, is read in the place of the second). Each recording
is a reply of its own words to nothing, in a tone that counts as neutral, so that units and a speech decoder can be
made from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance


class OwnVoice(Corpus):
    """Recordings below a folder; one in twenty validates and one in twenty tests, by a digest of its name."""

    name = "own_voice"
    title = "Recordings of one voice, for a bot that speaks with it"
    source = "docs/how-to/your-own-voice.md"
    access = "give a folder with audio files, and with their words in .txt files or a metadata.csv"
    licence = "yours"
    citation = ""
    languages = ("mul",)
    emotions = {}

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join recordings and words; without words, a recording can still train a vocoder."""
        listed = self._listed(folder)
        for path in self.audio(folder, ".wav", ".flac", ".ogg", ".mp3"):
            words = listed.get(path.stem)
            if path.with_suffix(".txt").is_file():
                words = decode(path.with_suffix(".txt"), "latin-1").strip()
            if not words:
                self.skip(path, "no words in a .txt file or a metadata.csv", Kind.KEPT)
            name = str(path.relative_to(folder).with_suffix(""))
            yield Utterance(
                id=name,
                corpus=self.name,
                path=str(path),
                split=_split(name),
                emotion="neutral",
                response=words or None,
                response_path=str(path) if words else None,
            )

    def _listed(self, folder: Path) -> dict[str, str]:
        """Words by the stem of the recording's name."""
        words = {}
        for table in self.files(folder, "metadata.csv"):
            for line in filter(str.strip, decode(table, "latin-1").splitlines()):
                name, _, rest = line.partition("|")
                words[name.strip()] = rest.rpartition("|")[2].strip() or rest.partition("|")[0].strip()
        return words


def _split(name: str) -> str:
    draw = hashlib.sha256(name.encode()).digest()[0] % 20
    return {0: "validation", 1: "test"}.get(draw, "train")
