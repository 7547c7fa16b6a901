"""MELD: scenes of a TV series, cut into utterances, with a category and a sentiment each.

One CSV per split; clips are named after dialogue and utterance, and the numbers start
again in each split. The clips are MP4 videos, mostly with 5.1 sound at 48 kHz.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, decode
from empathy_lightning.utterance import Utterance

_CLIP = re.compile(r"(?:final_videos_test)?dia(\d+)_utt(\d+)")
_PART = re.compile(r"train|dev|test")
_CONTROL = re.compile("[\x80-\x9f]")
_TIME = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)")
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


class MELD(Corpus):
    """Utterances of MELD whose sound was taken out of the videos, with the official splits.

    Keep the sound beside or instead of each video under its name. For the speech alone, take
    the centre of 5.1 channels and the left one of two, for example
    ``ffmpeg -i dia0_utt0.mp4 -af "pan=mono|c0=FC" -ar 16000 dia0_utt0.wav``.

    Args:
        root: Folder that holds ``MELD.Raw``, or the CSV files and the folders of the clips.
    """

    name = "meld"
    title = "MELD, acted English dialogues of a TV series"
    source = "https://affective-meld.github.io/"
    access = (
        "get MELD.Raw.tar.gz from http://web.eecs.umich.edu/~mihalcea/downloads/MELD.Raw.tar.gz, unpack it there "
        "with the archives inside it, and extract the sound of each MP4 to a WAV file of the same name"
    )
    licence = "GPL-3.0 (annotations); the clips are not to be redistributed"
    citation = "Poria et al. 2019, ACL: 527-536"
    languages = ("en",)
    emotions = {
        "anger": "angry", "disgust": "disgust", "fear": "fearful", "joy": "happy", "neutral": "neutral",
        "sadness": "sad", "surprise": "surprised",
    }  # fmt: skip
    counts = {
        "angry": 1607, "disgust": 361, "fearful": 358, "happy": 2308, "neutral": 6436, "sad": 1002, "surprised": 1636,
    }  # fmt: skip
    folders = ("MELD.Raw", "")
    unconfirmed = "the counts of the development and test parts; which of two clips of a test utterance is right"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the CSV files and match them to audio files."""
        rows: dict[str, dict[str, str]] = {}
        for part in _SPLITS:
            rows |= dict(self._rows(folder, part))
        seen = set()
        sounds = self.audio(folder, ".wav", ".flac", ".mp3", ".ogg")
        # Where a test utterance has two clips, the one with the long name holds what its row says.
        for path in sorted(sounds, key=lambda path: not path.stem.startswith("final_videos_test")):
            key = _key(path.relative_to(folder))
            if key in rows:
                seen.add(key)
                yield self._utterance(path, key, rows[key])
            else:
                self.skip(path, "no row in the CSV files")
        videos = {_key(path.relative_to(folder)): path for path in self.audio(folder, ".mp4")}
        for key in rows:
            if key not in seen:
                reason = "only a video: extract its sound" if key in videos else "a row without audio"
                self.skip(videos.get(key, key), reason)

    def _rows(self, folder: Path, part: str) -> Iterator[tuple[str, dict[str, str]]]:
        for path in self.files(folder, f"{part}_sent_emo.csv")[:1]:
            text = decode(path, "cp1252", "latin-1")
            # Some quotation marks and dashes stand there as control characters: cp1252 that was read as Latin-1.
            text = _CONTROL.sub(lambda match: match[0].encode("latin-1").decode("cp1252", "ignore"), text)
            for row in csv.DictReader(io.StringIO(text, newline="")):
                dialogue, utterance = row.get("Dialogue_ID") or "", row.get("Utterance_ID") or ""
                if dialogue.isdecimal() and utterance.isdecimal() and row.get("Emotion"):
                    yield f"{part}_dia{int(dialogue)}_utt{int(utterance)}", row
                else:
                    self.skip(path, f"not a row of labels: {row}")

    def _utterance(self, path: Path, key: str, row: dict[str, str]) -> Utterance:
        part = key.split("_")[0]
        columns = ("Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
        return Utterance(
            id=key,
            corpus=self.name,
            path=str(path),
            duration=_seconds(row),
            transcript=(row.get("Utterance") or "").strip() or None,
            language="en",
            speaker=(row.get("Speaker") or "").strip() or None,
            split=_SPLITS[part],
            emotion=self.emotion(row["Emotion"].strip(), path),
            raw_labels={column.lower(): row[column] for column in columns if row.get(column)},
        )


def _key(path: Path) -> str | None:
    clip = _CLIP.fullmatch(path.stem)
    parts = [match[0] for folder in path.parts[:-1] if (match := _PART.search(folder))]
    return f"{parts[-1]}_dia{int(clip[1])}_utt{int(clip[2])}" if clip and parts else None


def _seconds(row: dict[str, str]) -> float | None:
    """Length by the times in the series, such as ``00:16:16,059``; some clips are minutes longer."""
    start, end = _time(row.get("StartTime")), _time(row.get("EndTime"))
    if start is None or end is None or end <= start:
        return None
    return round(end - start, 3)


def _time(text: str | None) -> float | None:
    """Seconds since the beginning of the episode."""
    found = _TIME.fullmatch((text or "").strip())
    if found is None:
        return None
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(f"{found[3]}.{found[4]}")
