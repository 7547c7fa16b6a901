"""RAVDESS: 24 actors say two sentences in eight emotions.

File names hold seven two-digit fields: modality, channel, emotion, intensity,
statement, repetition, actor. Odd actors are male, even ones female. Leading and
trailing silence is long; :class:`~empathy_lightning.modules.convolutional_encoder.ConvolutionalEncoder` cuts it off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)")


class RAVDESS(Corpus):
    """Speech files of RAVDESS, split by speaker.

    Actors are taken in pairs (one male, one female). A rotation tests on one pair,
    validates on the next and trains on all others.

    Args:
        root: Folder that holds ``Audio_Speech_Actors_01-24`` or the ``Actor_*`` folders.
        rotation: Which pair is tested; taken modulo the number of pairs.
    """

    name = "ravdess"
    title = "RAVDESS, acted North American English, two sentences, 24 actors"
    source = "https://zenodo.org/records/1188976"
    access = "download it from https://zenodo.org/records/1188976 and unpack it there"
    licence = "CC BY-NC-SA 4.0"
    citation = "Livingstone and Russo 2018, PLoS ONE 13(5): e0196391"
    languages = ("en",)
    emotions = {
        "01": "neutral", "02": "calm", "03": "happy", "04": "sad",
        "05": "angry", "06": "fearful", "07": "disgust", "08": "surprised",
    }  # fmt: skip
    counts = {
        "neutral": 96, "calm": 192, "happy": 192, "sad": 192,
        "angry": 192, "fearful": 192, "disgust": 192, "surprised": 192,
    }  # fmt: skip
    folders = ("Audio_Speech_Actors_01-24", "")
    statements = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}

    def __init__(self, root: str, rotation: int = 0) -> None:
        super().__init__(root)
        self.rotation = rotation

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names; songs and videos are not speech files and are left out silently."""
        utterances = []
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of RAVDESS")
                continue
            modality, channel, emotion, intensity, statement, _, actor = match.groups()
            if (modality, channel) == ("03", "01"):
                utterances.append(
                    Utterance(
                        id=path.stem,
                        corpus=self.name,
                        path=str(path),
                        transcript=self.statements.get(statement),
                        language="en",
                        speaker=actor,
                        emotion=self.emotion(emotion, path),
                        raw_labels={"emotion": emotion, "intensity": intensity},
                    )
                )
        self._split(utterances)
        yield from utterances

    def _split(self, utterances: list[Utterance]) -> None:
        pairs = sorted({_pair_of(utterance) for utterance in utterances})
        for utterance in utterances:
            place = (pairs.index(_pair_of(utterance)) - self.rotation) % len(pairs)
            utterance.split = {0: "test", 1: "validation"}.get(place, "train")


def _pair_of(utterance: Utterance) -> int:
    """Actors 1 and 2 are pair 0, and so on."""
    return (int(utterance.speaker or 0) - 1) // 2
