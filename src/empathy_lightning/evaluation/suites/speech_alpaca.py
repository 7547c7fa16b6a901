"""SpeechAlpaca (BLSP-Emo): 400 written instructions, spoken by a synthesiser in an emotional tone.

A JSON Lines file has ``audio``, ``text`` and ``emotion``; the audio is named as on its authors' machine, and taken by
the end of that name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.rows import json_rows
from empathy_lightning.evaluation.suites.suite import Suite, located
from empathy_lightning.utterance import Utterance


class SpeechAlpaca(Suite):
    """Instructions with the emotion in which each is spoken."""

    name = "speech_alpaca"
    title = "SpeechAlpaca, written English instructions spoken by a synthesiser in an emotional tone"
    source = "https://github.com/cwang621/blsp-emo"
    access = "download SpeechAlpaca by the links in the README of https://github.com/cwang621/blsp-emo and put its jsonl file beside the folder of its audio"  # noqa: E501
    licence = "not confirmed (its code: Apache 2.0)"
    citation = "Wang et al. 2024, BLSP-Emo: towards empathetic large speech-language models, EMNLP"
    languages = ("en",)
    emotions = {"cheerful": "happy", "unfriendly": "angry"}
    counts = {"empathy": 400}
    scoring = "GPT-4o: quality and empathy of the text; of speech also by Gemini, as FreezeEmpath does"
    criteria = ("freezeempath_quality", "freezeempath_empathy", "freezeempath_acoustic")
    unconfirmed = (
        "the licence; the words of its emotions beside cheerful and angry, which are taken as emotion words where they"
        " are, cheerful as happy and unfriendly as angry; of the jsonl file one line was seen"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read all JSON Lines files."""
        for file in self.files(folder, "*.jsonl"):
            for row in json_rows(file, self.skip):
                path = located(file.parent, row.values.get("audio")) or located(folder, row.values.get("audio"))
                if path is None:
                    self.skip(row.place, "no audio file")
                    continue
                code = str(row.values.get("emotion", ""))
                yield Utterance(
                    id=Path(path).stem,
                    corpus=self.name,
                    path=path,
                    transcript=row.values.get("text"),
                    language="en",
                    emotion=emotion_named(code) or self.emotion(code, row.place),
                    raw_labels={"emotion": code},
                    ability="empathy",
                )
