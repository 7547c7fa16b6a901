"""RESD: acted Russian dialogues of two emotions each, seven emotions.

Names hold the dialogue, its two emotions, the letter of the emotion of this utterance and a
number: ``27_neutral_fear_n_100.wav``, in older dialogues with a blank before the letter
(``08_sadness_anger a_010.wav``). The folders ``train`` and ``test`` are the official splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(\d+)_[a-z]+_[a-z]+[ _]([a-z])_(\d+)", re.IGNORECASE)


class RESD(Corpus):
    """Utterances of RESD; who speaks is not stated, and the dialogue is the session.

    The official splits share dialogues, and so surely voices.
    """

    name = "resd"
    title = "RESD, acted Russian dialogues"
    source = "https://huggingface.co/datasets/Aniemore/resd"
    access = "download it from https://huggingface.co/datasets/Aniemore/resd and put the folders train and test there"
    licence = "MIT"
    citation = "Lubenets, Davidchuk and Amentes 2022, Aniemore, https://github.com/aniemore/Aniemore"
    languages = ("ru",)
    emotions = {
        "a": "angry", "d": "disgust", "e": "excited", "f": "fearful",
        "h": "happy", "n": "neutral", "s": "sad",
    }  # fmt: skip
    folders = ("resd", "RESD", "")
    unconfirmed = (
        "the layout is that of public manifests; the hub holds the same as Parquet, to be written to files first"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the file names."""
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None:
                self.skip(path, "its name is not one of RESD")
                continue
            dialogue, emotion = match[1], match[2].lower()
            parts = path.relative_to(folder.parent).parts
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                language="ru",
                session=dialogue,
                split=next((part for part in parts if part in ("train", "test")), None),
                emotion=self.emotion(emotion, path),
                raw_labels={"emotion": emotion},
            )
