"""URO-Bench, its sets on emotion: UnderEmotion (answer a feeling) and GenEmotion (say something with one).

The unpacked archive has a folder for each set with ``test.jsonl``: ``source_wav``, ``source_text``, ``target_text``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.rows import json_rows
from empathy_lightning.evaluation.suites.suite import Suite, located, texts
from empathy_lightning.utterance import Utterance

_SET = re.compile(r"(UnderEmotion|GenEmotion)-(en|zh)")


class UROBench(Suite):
    """Questions of the four sets on emotion; the others of URO-Bench are left alone."""

    name = "uro_bench"
    title = "URO-Bench, UnderEmotion and GenEmotion, English and Chinese"
    source = "https://github.com/Ruiqi-Yan/URO-Bench"
    access = "download URO-Bench-data.zip from https://huggingface.co/datasets/Honggao/URO-Bench and unpack it there"
    licence = "MIT"
    citation = "Yan et al. 2025, URO-Bench: towards comprehensive evaluation for end-to-end spoken dialogue models, arXiv:2502.17810"  # noqa: E501
    languages = ("en", "zh")
    counts = {"UnderEmotion-en": 137, "UnderEmotion-zh": 79, "GenEmotion-en": 54, "GenEmotion-zh": 43}
    scoring = (
        "UnderEmotion: GPT, 1 to 5 of the reply's words, the user's feeling and the reference, times 20; GenEmotion:"
        " emotion2vec_plus_large's probability of the wanted feeling in the speech, times 1 - WER, times 100"
    )
    criteria = ("uro_under_emotion",)
    folders = ("URO-Bench-data", "")
    unconfirmed = "the key of the emotion: one named emotion is read where it is"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read test.jsonl of each set that is there."""
        for file in self.files(folder, "test.jsonl"):
            found = _SET.fullmatch(file.parent.name)
            if found is None:
                continue
            for number, row in enumerate(json_rows(file, self.skip)):
                path = located(file.parent, row.values.get("source_wav"))
                if path is None:
                    self.skip(row.place, "no audio file (source_wav)")
                    continue
                code = str(row.values.get("emotion") or "")
                yield Utterance(
                    id=f"{found[0]}-{row.values.get('id', number)}",
                    corpus=self.name,
                    path=path,
                    transcript=row.values.get("source_text"),
                    language=found[2],
                    emotion=emotion_named(code) or code or None,
                    raw_labels={"emotion": code} if code else {},
                    ability=found[0],
                    references=texts(row.values.get("target_text")),
                )
