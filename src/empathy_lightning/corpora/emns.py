"""EMNS: one British speaker, eight emotions, stated levels and written descriptions.

``metadata.csv`` is separated by ``|``. It names the audio ``wavs/<stem>.webm`` while the
archive holds ``raw_webm/`` and ``cleaned_webm/``, so files are matched by stem. They are
Opus in WebM, which soundfile does not decode: a WAV file of the same stem, if there is one,
is taken instead.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode
from empathy_lightning.utterance import Utterance


class EMNS(Corpus):
    """Utterances of EMNS; it states no splits."""

    name = "emns"
    title = "EMNS, British English narration, one speaker"
    source = "https://www.openslr.org/136/"
    access = "download it from https://www.openslr.org/136/, unpack it there and convert the WebM files to WAV"
    licence = "Apache 2.0"
    citation = "Noriy, Yang and Zhang 2023, EMNS /Imz/ Corpus, arXiv:2305.13137"
    languages = ("en",)
    emotions = {
        "Angry": "angry", "Disgust": "disgust", "Excited": "excited", "Happy": "happy", "Neutral": "neutral",
        "Sad": "sad", "Sarcastic": "sarcastic", "Surprised": "surprised", "Surprise": "surprised",
    }  # fmt: skip
    folders = ("EMNS", "")
    unconfirmed = "the licence; what values other than Complete the column status takes (they are kept as raw labels)"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join the rows of ``metadata.csv`` with the audio files."""
        table = folder / "metadata.csv"
        if not table.is_file():
            raise CorpusError(f"no {table}; {self.access}")
        found = self.audio(folder, ".wav", ".flac", ".webm")
        files = {path.stem: path for path in sorted(found, key=_preference)}
        seen: set[str] = set()
        for row in csv.DictReader(io.StringIO(decode(table, "latin-1")), delimiter="|"):
            audio = row.get("audio_recording") or row.get("file") or ""
            path = files.get(Path(audio).stem)
            if path is None:
                self.skip(table, f"row {row.get('id')!r} has no audio file ({audio or 'none named'})")
                continue
            seen.add(path.stem)
            emotion = row.get("emotion") or ""
            raw = {key: row.get(key) for key in ("emotion", "level", "description", "status", "gender", "age")}
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=row.get("utterance") or None,
                language="en",
                speaker=row.get("user_id") or row.get("speaker") or None,
                emotion=self.emotion(emotion, path),
                raw_labels={key: value for key, value in raw.items() if value},
            )
        for stem in sorted(files.keys() - seen):
            self.skip(files[stem], f"no row in {table.name}")


def _preference(path: Path) -> tuple[bool, bool]:
    return path.suffix.lower() != ".webm", "cleaned" in path.parent.name
