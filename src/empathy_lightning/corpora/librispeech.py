"""LibriSpeech: read English books with transcripts, and without emotions.

``train-clean-100/103/1240/103-1240-0000.flac`` is subset, speaker, chapter and utterance;
``103-1240.trans.txt`` beside it holds a line per utterance. Transcripts are in upper case,
without punctuation, and are kept so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, decode
from empathy_lightning.utterance import Utterance

_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


class LibriSpeech(Corpus):
    """Utterances of all subsets that are there; the split is the first word of the subset's name."""

    name = "librispeech"
    title = "LibriSpeech, read English, transcripts without emotions"
    source = "https://www.openslr.org/12/"
    access = "download subsets from https://www.openslr.org/12/ and unpack them there"
    licence = "CC BY 4.0"
    citation = "Panayotov, Chen, Povey and Khudanpur 2015, LibriSpeech, ICASSP"
    languages = ("en",)
    emotions = {}
    folders = ("LibriSpeech", "")

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join the lines of the transcripts with the audio files."""
        files = {path.stem: path for path in self.audio(folder)}
        for table in self.files(folder, "*.trans.txt"):
            for line in filter(str.strip, decode(table, "latin-1").splitlines()):
                key, _, text = line.strip().partition(" ")
                path = files.pop(key, None)
                if path is None or not text:
                    self.skip(table, f"line {line[:60]!r} has no audio file, or no text")
                    continue
                speaker, _, rest = key.partition("-")
                yield Utterance(
                    id=key,
                    corpus=self.name,
                    path=str(path),
                    transcript=text,
                    language="en",
                    speaker=speaker,
                    session=rest.partition("-")[0] or None,
                    split=_SPLITS.get(path.parents[2].name.partition("-")[0]),
                )
        for path in files.values():
            self.skip(path, "no line in a .trans.txt file")
