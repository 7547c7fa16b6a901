"""RAVDESS: 24 actors say two sentences in eight emotions.

Source: https://zenodo.org/records/1188976 (free download). Licence: CC BY-NC-SA 4.0.
Citation: Livingstone and Russo 2018, PLoS ONE 13(5): e0196391.

File names hold seven two-digit fields: modality, channel, emotion, intensity,
statement, repetition, actor. 1,440 speech files: 60 per actor, 4 neutral and 8 of
each other emotion. Odd actors are male, even ones female. There are no ratings.
"""

from __future__ import annotations

import re
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, find_root
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

    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    statements = ("Kids are talking by the door.", "Dogs are sitting by the door.")

    def __init__(self, root: str, rotation: int = 0) -> None:
        self.root = root
        self.rotation = rotation

    def utterances(self) -> list[Utterance]:
        """Read the folder's file names.

        Raises:
            CorpusError: If there are no speech files of RAVDESS below the root.
        """
        where = "download it from https://zenodo.org/records/1188976 and unpack it there"
        folder = find_root(self.root, ("Audio_Speech_Actors_01-24", ""), where)
        found: dict[str, Utterance] = {}
        for path in sorted(folder.rglob("*")):
            match = _NAME.fullmatch(path.stem)
            if match and path.suffix.lower() in (".wav", ".flac"):
                utterance = self._utterance(path, match.groups())
                if utterance is not None:
                    found.setdefault(utterance.id, utterance)
        if not found:
            raise CorpusError(f"no RAVDESS speech files (03-01-*.wav) below {folder}; {where}")
        self._split(list(found.values()))
        return list(found.values())

    def _utterance(self, path: Path, codes: tuple[str, ...]) -> Utterance | None:
        modality, channel, emotion, intensity, statement, _, actor = codes
        if (modality, channel) != ("03", "01"):
            return None
        return Utterance(
            id=path.stem,
            corpus="ravdess",
            path=str(path),
            transcript=self.statements[int(statement) - 1],
            language="en",
            speaker=actor,
            emotion=self.emotions[int(emotion) - 1],
            raw_labels={"emotion": emotion, "intensity": intensity},
        )

    def _split(self, utterances: list[Utterance]) -> None:
        pairs = sorted({(int(u.speaker or 0) - 1) // 2 for u in utterances})
        test = pairs[self.rotation % len(pairs)]
        validation = pairs[(self.rotation + 1) % len(pairs)]
        for utterance in utterances:
            pair = (int(utterance.speaker or 0) - 1) // 2
            utterance.split = "test" if pair == test else "validation" if pair == validation else "train"
