"""IEMOCAP: ten actors in five sessions of two, improvised and scripted, with categories and ratings.

An evaluation file holds a block per turn: times, name, majority category and mean
ratings, then a line per rater (``C-E2`` categories, ``A-E3`` ratings; ``F1`` and ``M1``
are the actors rating themselves). Mean ratings stand in the order valence, activation,
dominance, from 1 to 5. The letter after the session in a name says who wears the
markers; the speaker is the letter of its last part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from empathy_lightning.corpora.corpus import Corpus, decode
from empathy_lightning.utterance import Utterance, vote_shares

_NAME = re.compile(r"(Ses0([1-5])[FM]_(?:impro\d\d[a-z]?|script\d\d[a-z]?(?:_\d[a-z]?)?))_([FM])(\d{3})")
_TURN = re.compile(r"\[(\d+\.?\d*) - (\d+\.?\d*)\]\s+(\S+)\s+(\S+)\s+\[([^],]*),([^],]*),([^],]*)\]")
_VOTE = re.compile(r"([AC]-[EFM]\d):\s*(.*?)\s*;?\s*(?:\(([^()]*)\))?")
_WORDS = re.compile(r"(\S+)\s+\[[\d.]+-[\d.]+\]:\s*(.*)")
_SOUND = re.compile(r"\s*\[[A-Z]+\]")
_HEARD = {
    "neutral state": "neutral", "neutral": "neutral", "happiness": "happy", "excited": "excited", "sadness": "sad",
    "anger": "angry", "frustration": "frustrated", "surprise": "surprised", "fear": "fearful", "disgust": "disgust",
}  # fmt: skip


class TurnName(NamedTuple):
    """What the name of a turn says."""

    dialog: str
    session: str
    speaker: str
    number: str


def parse_name(name: str) -> TurnName | None:
    """Take a name such as ``Ses03M_impro05a_F012`` apart; None if it is not the name of a turn."""
    match = _NAME.fullmatch(name)
    return TurnName(*match.groups()) if match else None


class IEMOCAP(Corpus):
    """Turns of IEMOCAP, without splits: the usual protocol leaves out one session after the other.

    Args:
        root: Folder that holds ``IEMOCAP_full_release`` or the folders ``Session1`` to ``Session5``.
    """

    name = "iemocap"
    title = "IEMOCAP, improvised and scripted North American English, 10 actors"
    source = "https://sail.usc.edu/iemocap/"
    access = "sign the licence at https://sail.usc.edu/iemocap/iemocap_release.htm and unpack the release there"
    licence = "signed agreement, research only"
    citation = "Busso et al. 2008, Language Resources and Evaluation 42: 335-359"
    languages = ("en",)
    emotions = {
        "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "exc": "excited", "fru": "frustrated",
        "fea": "fearful", "sur": "surprised", "dis": "disgust", "oth": "other",
    }  # fmt: skip
    rating_scale = (1.0, 5.0)
    counts = {
        "angry": 1103, "happy": 595, "sad": 1084, "neutral": 1708, "excited": 1041, "frustrated": 1849,
        "fearful": 40, "surprised": 107, "disgust": 2, "other": 3,
    }  # fmt: skip
    folders = ("IEMOCAP_full_release", "")
    unconfirmed = "the counts of frustrated, fearful, surprised, disgust and other"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the evaluations of all sessions and match them to the files in ``sentences/wav``."""
        for session in sorted(folder.glob("Session[1-5]")):
            turns = self._turns(session / "dialog" / "EmoEvaluation")
            words = self._words(session / "dialog" / "transcriptions")
            for path in self.audio(session / "sentences" / "wav"):
                turn = turns.pop(path.stem, None)
                if turn is None:
                    self.skip(path, "no evaluation of this turn")
                    continue
                turn.path = str(path)
                if path.stem in words:
                    turn.raw_labels["transcript"] = words[path.stem]
                    turn.transcript = _SOUND.sub("", words[path.stem]).strip()
                yield turn
            for name in turns:
                self.skip(name, "evaluated, but without a file in sentences/wav")

    def _turns(self, folder: Path) -> dict[str, Utterance]:
        turns: dict[str, Utterance] = {}
        for path in _texts(folder):
            turn, heard = None, list[str]()
            for line in _lines(path):
                if line.startswith("["):
                    turn, heard = self._turn(line, path), []
                    if turn is not None:
                        turns[turn.id] = turn
                elif turn is not None and (vote := _VOTE.fullmatch(line)):
                    rater, label, remark = vote.groups()
                    turn.raw_labels[rater] = f"{label} ({remark})" if remark else label
                    # The actors' opinions of themselves (C-F1, C-M1) are no votes.
                    if rater.startswith("C-E"):
                        heard += _heard(label)
                    turn.emotion_votes = vote_shares(heard)
        return turns

    def _turn(self, line: str, path: Path) -> Utterance | None:
        match = _TURN.match(line)
        name = parse_name(match[3]) if match else None
        if match is None or name is None:
            self.skip(path, f"not a turn: {line!r}")
            return None
        where = f"{path}, {match[3]}"
        code, valence, arousal, dominance = (field.strip() for field in match.groups()[3:])
        return Utterance(
            id=match[3],
            corpus=self.name,
            path="",
            duration=round(float(match[2]) - float(match[1]), 4),
            language="en",
            speaker=name.session + name.speaker,
            session=name.session,
            emotion=None if code == "xxx" else self.emotion(code, where),
            arousal=self.rating(arousal, where),
            valence=self.rating(valence, where),
            dominance=self.rating(dominance, where),
            raw_labels={"emotion": code, "valence": valence, "arousal": arousal, "dominance": dominance},
        )

    def _words(self, folder: Path) -> dict[str, str]:
        words = {}
        for path in _texts(folder):
            for line in _lines(path):
                if match := _WORDS.fullmatch(line):
                    words[match[1]] = match[2]
        return words


def _heard(label: str) -> list[str]:
    """The categories that a rater named, such as ``Anger; Frustration``; each counts as a vote."""
    return [_HEARD.get(word.strip().lower(), "other") for word in label.split(";") if word.strip()]


def _texts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))


def _lines(path: Path) -> list[str]:
    # Not splitlines: it would also break at the control characters that Latin-1 bytes become.
    return [line.strip() for line in decode(path, "cp1252", "latin-1").split("\n")]
