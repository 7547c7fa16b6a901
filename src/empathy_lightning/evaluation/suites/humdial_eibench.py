"""HumDial-EIBench: what people felt, why, and against their words, recorded in Chinese and English dialogues.

Task 3 (a reply) is read in the form of the challenge: lines with ``dialogue_id`` and ``turns``, of which each has
``text``, ``emotion`` and ``split_audio_file``. Asked is the second turn that is not neutral, as its own program takes
it. Tasks 1, 2 and 4 are multiple choice; the form in which they are read is not confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.corpus import Kind
from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.asking import asked, labels_of, letter_of, options_of
from empathy_lightning.evaluation.suites.rows import Row, json_rows, objects_of
from empathy_lightning.evaluation.suites.suite import Suite, located
from empathy_lightning.text import script_share
from empathy_lightning.utterance import Utterance

_TASK = re.compile(r"(?:task|t)[ _-]?([1-4])(?!\d)", re.IGNORECASE)
_ABILITIES = {"1": "T1 trajectory", "2": "T2 cause", "3": "T3 reply", "4": "T4 conflict"}


class HumDialEIBench(Suite):
    """Questions of the tasks whose files are there; a file's task is told by its name or that of its folder."""

    name = "humdial_eibench"
    title = "HumDial-EIBench, recorded Chinese and English dialogues: what is felt, why, and against the words"
    source = "https://github.com/ASLP-lab/HumDial-EIBench"
    access = "download https://huggingface.co/datasets/ASLP-lab/HumDial-EIBench"
    licence = "Apache 2.0 (code); that of the data is not confirmed"
    citation = "Wang et al. 2026, HumDial-EIBench, arXiv:2604.11594"
    languages = ("en", "zh")
    counts = {"T1 trajectory": 300, "T2 cause": 283, "T3 reply": 294, "T4 conflict": 200}
    scoring = "accuracy (T1, T2, T4); Qwen3-Omni-30B-A3B-Instruct, 1 to 5 of words, voice and sound (T3)"
    measures = ("multiple_choice",)
    criteria = ("humdial_t3",)
    unconfirmed = (
        "the licence and the layout of the data; the keys of multiple choice, which are read as question, options,"
        " answer and audio; a question with several recordings is left out; of task 3 the asked turn is heard without"
        " those before it; how its authors word their questions"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the JSON and JSON Lines files of the four tasks."""
        for file in self.files(folder, "*.json", "*.jsonl"):
            found = _TASK.search(file.relative_to(folder).as_posix())
            if found is None:
                continue
            for number, row in enumerate(json_rows(file, self.skip)):
                name = row.values.get("dialogue_id", row.values.get("id", number))
                place = file.relative_to(folder).with_suffix("").as_posix()
                read = self._reply if found[1] == "3" else self._choice
                question = read(row, file.parent, f"{place}-{name}")
                if question is not None:
                    question.ability = _ABILITIES[found[1]]
                    yield question

    def _reply(self, row: Row, home: Path, name: str) -> Utterance | None:
        turn = _second_feeling(row.values.get("turns"))
        if turn is None:
            self.skip(row.place, "no second turn that is not neutral", Kind.ASKED)
            return None
        path = located(home, turn.get("split_audio_file"))
        if path is None:
            self.skip(row.place, "no audio file (split_audio_file)")
            return None
        words, code = str(turn.get("text", "")), str(turn.get("emotion", ""))
        return Utterance(
            id=name,
            corpus=self.name,
            path=path,
            transcript=words or None,
            language=_language(words),
            session=str(row.values.get("dialogue_id")),
            emotion=emotion_named(code) or code or None,
            raw_labels={"turn": str(turn.get("turn_id", ""))},
        )

    def _choice(self, row: Row, home: Path, name: str) -> Utterance | None:
        values = row.values
        options = options_of(values.get("options"))
        answer = letter_of(values.get("answer"), options)
        path = located(home, values.get("audio"))
        if answer is None or path is None:
            lacking = "no single audio file" if path is None else "no answer among the options"
            self.skip(row.place, lacking)
            return None
        question = str(values.get("question", ""))
        return Utterance(
            id=name,
            corpus=self.name,
            path=path,
            language=_language(question),
            prompt=asked(question, options),
            raw_labels=labels_of(options),
            references=[answer],
        )


def _second_feeling(turns: Any) -> dict[str, Any] | None:
    """The second turn with a feeling that is not neutral."""
    felt = [turn for turn in objects_of(turns) if str(turn.get("emotion", "")).lower() != "neutral"]
    return felt[1] if len(felt) > 1 else None


def _language(text: str) -> str:
    return "zh" if script_share(text, "zh") > 0.3 else "en"
