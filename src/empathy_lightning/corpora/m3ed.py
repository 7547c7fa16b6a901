"""M3ED: dialogues from 56 Chinese television series, seven emotions, several labels each.

``annotation.json`` goes from series to dialogue to utterance; the audio of an utterance is
``<speaker letter>_<utterance>.wav``, anywhere below the folder. ``splitInfo`` lists the
series of each split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode
from empathy_lightning.utterance import Utterance


class M3ED(Corpus):
    """Utterances of M3ED with their main emotion; all emotions are kept as the raw label ``emotions``."""

    name = "m3ed"
    title = "M3ED, Mandarin television dialogues"
    source = "https://github.com/AIM3-RUC/RUCM3ED"
    access = (
        "ask for it as https://github.com/AIM3-RUC/RUCM3ED says; put annotation.json, splitInfo and the WAV files there"
    )
    licence = "research only, by agreement"
    citation = "Zhao et al. 2022, M3ED: multi-modal multi-scene multi-label emotional dialogue database, ACL"
    languages = ("zh",)
    emotions = {
        "Anger": "angry", "Disgust": "disgust", "Fear": "fearful", "Happy": "happy",
        "Neutral": "neutral", "Sad": "sad", "Surprise": "surprised",
    }  # fmt: skip
    folders = ("M3ED", "")
    unconfirmed = "the layout is that of public code, not of files seen; the licence"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join the annotation with the audio files."""
        table = folder / "annotation.json"
        try:
            series = json.loads(decode(table, "gb18030")).items()
        except (OSError, ValueError, AttributeError) as error:
            raise CorpusError(f"{table}: {error}; {self.access}") from None
        splits = _splits(folder / "splitInfo")
        files = {path.stem: path for path in self.audio(folder)}
        for show, dialogues in series:
            for dialogue, content in dialogues.items():
                for key, turn in content.get("Dialog", {}).items():
                    try:
                        path = files.pop(f"{turn['Speaker']}_{key}", None)
                        if path is None:
                            self.skip(f"{table}, {key}", "no audio file")
                            continue
                        utterance = self._utterance(key, turn, path)
                        name = content.get("SpeakerInfo", {}).get(turn["Speaker"], {}).get("Name")
                    except (KeyError, TypeError, AttributeError) as error:
                        self.skip(f"{table}, {key}", f"not in the known form ({error!r})")
                        continue
                    utterance.speaker = f"{show}_{name}" if name else None
                    utterance.session = dialogue
                    utterance.split = splits.get(show)
                    yield utterance
        for path in files.values():
            self.skip(path, f"not in {table.name}")

    def _utterance(self, key: str, turn: dict[str, Any], path: Path) -> Utterance:
        labels = turn["EmoAnnotation"]
        main = str(labels["final_main_emo"])
        return Utterance(
            id=key,
            corpus=self.name,
            path=str(path),
            transcript=str(turn["Text"]).strip() or None,
            language="zh",
            emotion=self.emotion(main, path),
            raw_labels={"emotion": main, "emotions": str(labels.get("final_mul_emo", main))},
        )


def _splits(folder: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name, split in (("train", "train"), ("val", "validation"), ("test", "test")):
        path = folder / f"movie_list_{name}.txt"
        if path.is_file():
            splits |= dict.fromkeys(decode(path).split(), split)
    return splits
