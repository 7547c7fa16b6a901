"""CREMA-D: 91 actors say twelve sentences in six emotions.

File names hold actor, sentence, emotion and level. The repository stores all media with
Git LFS. ``processedResults/summaryTable.csv`` says what listeners and viewers heard and saw;
``tabulatedVotes.csv`` beside it counts the votes, those of listeners in the rows numbered 1xxxxx.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, Kind, decode
from empathy_lightning.utterance import Utterance, vote_shares

_NAME = re.compile(r"(1\d{3})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")
_VOTES = ("VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel", "MultiModalVote", "MultiModalLevel")
_HEARD = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}
_NO_SOUND = "1076_MTI_SAD_XX"


class CREMAD(Corpus):
    """Utterances of CREMA-D with the acted emotion; the votes are in the raw labels.

    Args:
        root: Folder that holds ``CREMA-D``, its checkout, or a folder of its sound files.
    """

    name = "cremad"
    title = "CREMA-D, acted English, twelve sentences, 91 actors"
    source = "https://github.com/CheyneyComputerScience/CREMA-D"
    access = "clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS (git lfs pull)"
    licence = "ODbL 1.0 (database), DbCL 1.0 (contents)"
    citation = "Cao et al. 2014, IEEE Transactions on Affective Computing 5(4): 377-390"
    languages = ("en",)
    emotions = {
        "ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
    }  # fmt: skip
    counts = {"angry": 1271, "disgust": 1271, "fearful": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}
    folders = ("CREMA-D", "")
    sentences = {
        "IEO": "It's eleven o'clock.",
        "TIE": "That is exactly what happened.",
        "IOM": "I'm on my way to the meeting.",
        "IWW": "I wonder what this is about.",
        "TAI": "The airplane is almost full.",
        "MTI": "Maybe tomorrow it will be cold.",
        "IWL": "I would like a new alarm clock.",
        "ITH": "I think I have a doctor's appointment.",
        "DFA": "Don't forget a jacket.",
        "ITS": "I think I've seen this before.",
        "TSI": "The surface is slick.",
        "WSI": "We'll stop in a couple of minutes.",
    }

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the names of the WAV files; the MP3 files and videos are left alone."""
        votes = self._votes(folder / "processedResults" / "summaryTable.csv")
        shares = self._shares(folder / "processedResults" / "tabulatedVotes.csv")
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of CREMA-D")
                continue
            actor, sentence, emotion, level = match.groups()
            # An older release has 1040_ITH_SAD_X.
            spelt = "XX" if level == "X" else level
            name = f"{actor}_{sentence}_{emotion}_{spelt}"
            if name == _NO_SOUND:
                self.skip(path, "holds no sound", Kind.ASKED)
                continue
            yield Utterance(
                id=name,
                corpus=self.name,
                path=str(path),
                transcript=self.sentences.get(sentence),
                language="en",
                speaker=actor,
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion, "level": level, **votes.get(name, {})},
                emotion_votes=shares.get(name, {}),
            )

    def _votes(self, path: Path) -> dict[str, dict[str, str]]:
        if not path.is_file():
            return {}
        votes = {}
        for row in csv.DictReader(io.StringIO(decode(path, "latin-1"), newline="")):
            if row.get("FileName"):
                votes[row["FileName"]] = {column: row[column] for column in _VOTES if row.get(column)}
        return votes

    def _shares(self, path: Path) -> dict[str, dict[str, float]]:
        """Shares of the emotions among those who only listened, by file name."""
        if not path.is_file():
            return {}
        shares = {}
        for row in csv.DictReader(io.StringIO(decode(path, "latin-1"), newline="")):
            # The first column numbers the rows; those of listeners begin with a 1.
            if row.get("fileName") and next(iter(row.values())).startswith("1"):
                heard: list[str] = []
                for code, word in _HEARD.items():
                    heard += [word] * int(row[code] or 0)
                shares[row["fileName"]] = vote_shares(heard)
        return shares
