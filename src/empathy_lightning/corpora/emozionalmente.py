"""Emozionalmente: Italian volunteers say 18 sentences in seven emotions.

Audio files are named by a time stamp in milliseconds; three CSV files (read by their
headers) hold the labels, the speakers and the listeners' votes. 150 files are at 44.1 kHz,
the others at 16 kHz.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode
from empathy_lightning.utterance import Utterance


class Emozionalmente(Corpus):
    """Utterances of Emozionalmente with the emotion that was to be expressed; it states no splits.

    The listeners' votes are kept as the raw label ``votes``, for example ``"joy 4, neutrality 1"``.
    """

    name = "emozionalmente"
    title = "Emozionalmente, crowd-sourced acted Italian, 18 sentences, 431 speakers"
    source = "https://zenodo.org/records/6569824"
    access = "download it from https://zenodo.org/records/6569824 and unpack it there"
    licence = "CC BY 4.0"
    citation = "Catania, Wilke and Garzotto 2025, Emozionalmente, IEEE/ACM Trans. Audio, Speech, Language Processing 33"
    languages = ("it",)
    emotions = {
        "anger": "angry", "disgust": "disgust", "fear": "fearful", "joy": "happy",
        "neutrality": "neutral", "sadness": "sad", "surprise": "surprised",
    }  # fmt: skip
    counts = {
        "angry": 986, "disgust": 986, "fearful": 986, "happy": 986,
        "neutral": 986, "sad": 986, "surprised": 986,
    }  # fmt: skip
    folders = ("emozionalmente_dataset", "")
    unconfirmed = "whether the column sentence holds the text or a number (numbers are not taken as transcripts)"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join samples, speakers, votes and audio files."""
        files = {path.stem: path for path in self.audio(folder)}
        table = folder / "metadata" / "samples.csv"
        samples = _rows(table)
        if not samples:
            raise CorpusError(f"{table}: missing or empty; {self.access}")
        users = {row.get("username"): row for row in _rows(table.with_name("users.csv"))}
        votes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in _rows(table.with_name("evaluations.csv")):
            votes[Path(row.get("file_name", "")).stem][row.get("emotion_recognized", "")] += 1
        for row in samples:
            stem, actor = Path(row.get("file_name", "")).stem, row.get("actor") or None
            path = files.pop(stem, None)
            if path is None:
                self.skip(table, f"row {row.get('file_name')!r} has no audio file, or it was named before")
                continue
            sentence, emotion = row.get("sentence", ""), row.get("emotion_expressed", "")
            raw = {key: value for key, value in users.get(actor, {}).items() if value}
            raw.pop("username", None)
            raw |= {"emotion": emotion, "sentence": sentence}
            if stem in votes:
                raw["votes"] = ", ".join(f"{word} {count}" for word, count in votes[stem].most_common())
            yield Utterance(
                id=stem,
                corpus=self.name,
                path=str(path),
                transcript=None if sentence.isdecimal() else sentence or None,
                language="it",
                speaker=actor,
                emotion=self.emotion(emotion, path),
                raw_labels=raw,
            )
        for path in files.values():
            self.skip(path, f"no row in {table.name}")


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    rows = []
    for row in csv.DictReader(io.StringIO(decode(path, "latin-1"))):
        # Cells beyond the head stand under None.
        rows.append({str(key).strip(): str(value or "").strip() for key, value in row.items() if key})
    return rows
