"""MSP-Podcast: segments of podcasts, rated by crowds for category, arousal, valence and dominance.

The consensus labels are one CSV or JSON file, spelt ``labels_concensus`` in older
releases. Ratings run from 1 to 7 and stand in the columns ``EmoAct``, ``EmoVal`` and
``EmoDom``. The labels of the third test set are kept by the authors.

``labels_detailed`` beside them has a row for each rating: the rater's primary emotion, all that
were perceived, and the three ratings, in columns of their own (releases 1.6 and 2.0), in one text
(``EmoDetail``, those between) or as JSON by file and rater. The votes are the primary emotions.
A rater may write another word, mostly as ``Other-...``; such words are "other".
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from sys import intern

from empathy_lightning.corpora.corpus import Corpus, CorpusError, Kind, decode
from empathy_lightning.utterance import Utterance, vote_shares
from empathy_lightning.walk import files_below

_SPLITS = {
    "Train": "train", "Validation": "validation", "Development": "validation",
    "Test1": "test", "Test": "test", "Test2": "test2", "Test3": "test3",
}  # fmt: skip
_HEARD = {
    "angry": "angry", "sad": "sad", "happy": "happy", "surprise": "surprised", "fear": "fearful",
    "disgust": "disgust", "contempt": "contempt", "neutral": "neutral",
}  # fmt: skip
_RAW = {
    "emotion": "EmoClass", "arousal": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom", "gender": "Gender",
    "split": "Split_Set",
}  # fmt: skip
"""Columns that are kept as they are, by the names of our raw labels."""

_DETAIL = re.compile(r"WORKER\w*;\s*([^;]*?)\s*;", re.IGNORECASE)
_VERSIONS = ("2.0", "1.12", "1.11", "1.10", "1.9", "1.8", "1.7", "1.6")


class MSPPodcast(Corpus):
    """Segments of one release of MSP-Podcast, with its splits.

    ``Test1`` is ``test``; ``Test2`` and ``Test3`` are ``test2`` and ``test3``.

    Args:
        root: Folder that holds the release, or the release itself with ``Labels`` and ``Audios``.
    """

    name = "msp_podcast"
    title = "MSP-Podcast, spontaneous English from podcasts"
    source = "https://lab-msp.com/MSP/MSP-Podcast.html"
    access = "ask for it at https://lab-msp.com/MSP/MSP-Podcast.html (signed licence) and unpack a release there"
    licence = "signed agreement of The University of Texas at Dallas, research only"
    citation = "Lotfian and Busso 2019, IEEE Transactions on Affective Computing 10(4): 471-483"
    languages = ("en",)
    emotions = {
        "A": "angry", "S": "sad", "H": "happy", "U": "surprised", "F": "fearful", "D": "disgust",
        "C": "contempt", "N": "neutral", "O": "other",
    }  # fmt: skip
    rating_scale = (1.0, 7.0)
    folders = (*(f"MSP-PODCAST-Publish-{version}" for version in _VERSIONS), "")
    unconfirmed = (
        "the folder names of the single releases; a split called Test; whether Test3 has rows; "
        "the detailed labels are in the layouts of public code, not of files seen"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the labels and match them to the audio files."""
        rows = self._rows(folder)
        votes = self._votes(folder)
        transcripts = _folder(folder, "[Tt]ranscript*")
        seen = set()
        for path in self.audio(_folder(folder, "[Aa]udio*")):
            hidden = {"Split_Set": "Test3"} if "_test3_" in path.stem else None
            row = rows.get(path.stem, hidden)
            if row is None:
                self.skip(path, "no row in the consensus labels")
                continue
            seen.add(path.stem)
            yield self._utterance(path, row, transcripts / f"{path.stem}.txt", votes.get(path.stem, []))
        for stem in rows:
            if stem not in seen:
                self.skip(stem, "a row without audio")

    def _rows(self, folder: Path) -> dict[str, dict[str, str]]:
        file = _labels(folder, "labels_con?ensus")
        if file is None:
            raise CorpusError(f"no labels_consensus.csv or .json below {folder}; {self.access}")
        text = decode(file, "cp1252", "latin-1")
        if file.suffix == ".json":
            listed = [{"FileName": name, **labels} for name, labels in json.loads(text).items()]
        else:
            listed = list(csv.DictReader(io.StringIO(text, newline="")))
        rows = {}
        for row in listed:
            if not row.get("FileName") or row.get("EmoClass") is None or row.get("Split_Set") is None:
                self.skip(file, f"not a row of labels: {row}")
            else:
                rows[Path(row["FileName"]).stem] = {key: str(value) for key, value in row.items() if key}
        return rows

    def _votes(self, folder: Path) -> dict[str, list[str]]:
        """Primary emotions as the raters wrote them, by file name; none where there are no detailed labels."""
        file = _labels(folder, "labels_detailed")
        votes, odd = defaultdict[str, list[str]](list), 0
        if file is None:
            return votes
        for name, emotion in _ratings(file):
            if name and emotion:
                # Ratings are many and their words few: each word is kept once.
                votes[name.rsplit(".", 1)[0]].append(intern(emotion))
            else:
                odd += 1
        if odd:
            self.skip(file, f"ratings without a file name or a primary emotion: {odd}", Kind.KEPT)
        return votes

    def _utterance(self, path: Path, row: dict[str, str], transcript: Path, votes: list[str]) -> Utterance:
        code, split, speaker = row.get("EmoClass", ""), row["Split_Set"], row.get("SpkrID", "Unknown")
        if split not in _SPLITS:
            self.skip(path, f"label only: unknown split {split!r}", Kind.KEPT)
        raw = {name: row[column] for name, column in _RAW.items() if row.get(column)}
        if votes:
            raw["raters"] = "; ".join(votes)
        heard = list(chain.from_iterable(map(_heard, votes)))
        return Utterance(
            id=path.stem,
            corpus=self.name,
            path=str(path),
            transcript=decode(transcript, "cp1252", "latin-1").strip() if transcript.is_file() else None,
            language="en",
            speaker=None if speaker in ("Unknown", "") else speaker,
            split=_SPLITS.get(split),
            emotion=None if code in ("X", "") else self.emotion(code, path),
            arousal=self.rating(row.get("EmoAct"), path),
            valence=self.rating(row.get("EmoVal"), path),
            dominance=self.rating(row.get("EmoDom"), path),
            raw_labels=raw,
            emotion_votes=vote_shares(heard),
        )


def _labels(folder: Path, name: str) -> Path | None:
    below = files_below(folder)
    for form in ("csv", "json"):
        for path in below:
            if fnmatchcase(path.name, f"{name}.{form}"):
                return path
    return None


def _ratings(file: Path) -> Iterator[tuple[str, str]]:
    """File name and primary emotion of each rating; "" where one is missing."""
    text = decode(file, "cp1252", "latin-1")
    if file.suffix == ".json":
        for name, raters in json.loads(text).items():
            for rating in raters.values():
                yield name, (rating.get("EmoClass_Major") or "").strip()
        return
    for row in csv.DictReader(io.StringIO(text, newline="")):
        for emotion in _emotions_in(row) or [""]:
            yield (row.get("FileName") or "").strip(), (emotion or "").strip()


def _emotions_in(row: dict[str, str]) -> list[str]:
    """Primary emotions of a row: its own, or those of all raters where one text holds them."""
    if "EmoClass_Major" in row:
        return [row["EmoClass_Major"]]
    return _DETAIL.findall(row.get("EmoDetail") or "")


def _heard(emotion: str) -> list[str]:
    """Our words for a primary emotion; a rater who names two has two votes, and all free text is one of "other"."""
    if emotion.lower().startswith("other"):
        return ["other"]
    words = [word.strip().lower() for word in emotion.split(",") if word.strip()]
    known = [_HEARD[word] for word in words if word in _HEARD]
    if words and not known:
        return ["other"]
    return known


def _folder(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.glob(pattern))), folder)
