"""URO-Bench, its sets on emotion (UnderEmotion, GenEmotion) and of several turns (MtBenchEval, SpeakerAware).

The unpacked archive has a folder for each set with ``test.jsonl``: ``source_wav``, ``source_text``, ``target_text``; in
dialogues, a list of these under ``dialogue``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.rows import Row, json_rows
from empathy_lightning.evaluation.suites.suite import FOLLOWS, Suite, located, texts
from empathy_lightning.utterance import Utterance

_SET = re.compile(r"(UnderEmotion|GenEmotion|MtBenchEval|SpeakerAware)-(en|zh)")


class UROBench(Suite):
    """Questions of the sets on emotion and of several turns; the others of URO-Bench are left alone."""

    name = "uro_bench"
    title = "URO-Bench, its sets on emotion and of several turns, English and Chinese"
    source = "https://github.com/Ruiqi-Yan/URO-Bench"
    access = "download URO-Bench-data.zip from https://huggingface.co/datasets/Honggao/URO-Bench and unpack it there"
    licence = "MIT"
    citation = "Yan et al. 2025, URO-Bench: towards comprehensive evaluation for end-to-end spoken dialogue models, arXiv:2502.17810"  # noqa: E501
    languages = ("en", "zh")
    counts = {
        "UnderEmotion-en": 137, "UnderEmotion-zh": 79, "GenEmotion-en": 54, "GenEmotion-zh": 43, "MtBenchEval-en": 190,
        "SpeakerAware-en": 55, "SpeakerAware-zh": 49,
    }  # fmt: skip
    scoring = (
        "UnderEmotion: GPT, 1 to 5 of the reply's words, the user's feeling and the reference, times 20; GenEmotion:"
        " emotion2vec_plus_large's probability of the wanted feeling in the speech, times 1 - WER, times 100;"
        " MtBenchEval: GPT, 1 to 5 of all replies of a dialogue; SpeakerAware: Gemini hears them"
    )
    measures = ("spoken_emotion",)
    criteria = ("uro_under_emotion", "uro_dialogue")
    folders = ("URO-Bench-data", "")
    unconfirmed = (
        "the key of the emotion: one named emotion is read where it is; that SpeakerAware has the form of MtBenchEval;"
        " numbers of dialogues are published, of which each has several questions here"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read test.jsonl of each set that is there."""
        for file in self.files(folder, "test.jsonl"):
            found = _SET.fullmatch(file.parent.name)
            if found is None:
                continue
            for number, row in enumerate(json_rows(file, self.skip)):
                name = f"{found[0]}-{row.values.get('id', number)}"
                if "dialogue" in row.values:
                    yield from self._dialogue(row, file.parent, name, found)
                elif (question := self._question(row.values, row.place, file.parent, name, found)) is not None:
                    yield question

    def _dialogue(self, row: Row, home: Path, name: str, found: re.Match[str]) -> Iterator[Utterance]:
        """The turns of a dialogue, each after the one before it, up to one without a recording."""
        before = None
        dialogue = row.values["dialogue"]
        turns = dialogue if isinstance(dialogue, list) else []
        for number, turn in enumerate(turns, 1):
            values = turn if isinstance(turn, dict) else {}
            question = self._question(values, f"{row.place}, turn {number}", home, f"{name}-{number}", found)
            if question is None:
                return
            question.session = name
            if before is not None:
                question.raw_labels[FOLLOWS] = before
            before = question.id
            yield question

    def _question(
        self, values: dict[str, Any], place: str, home: Path, name: str, found: re.Match[str]
    ) -> Utterance | None:
        path = located(home, values.get("source_wav"))
        if path is None:
            self.skip(place, "no audio file (source_wav)")
            return None
        code = str(values.get("emotion") or "")
        return Utterance(
            id=name,
            corpus=self.name,
            path=path,
            transcript=values.get("source_text"),
            language=found[2],
            emotion=emotion_named(code) or code or None,
            raw_labels={"emotion": code} if code else {},
            ability=found[0],
            references=texts(values.get("target_text")),
        )
