"""EchoMind: one script in a target, a neutral and another delivery, and questions on what is heard in it.

``dataset/data_synthesis`` (or ``data_human``) holds ``script_info_*.json`` with ``case_id``, ``spoken_info``,
``topic`` and, for each delivery, ``target_audio_info`` with ``target_input_audio_file``; ``MCQ/*.json`` with
``question_id``, ``audio_dir``, ``audio_name``, ``question`` and ``options_text``; and ``audio``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.emotion_words import emotion_named
from empathy_lightning.evaluation.suites.asking import asked, labels_of, letter_of, options_of
from empathy_lightning.evaluation.suites.rows import Row, json_rows
from empathy_lightning.evaluation.suites.suite import Suite, located
from empathy_lightning.utterance import Utterance

_DELIVERIES = ("target", "neutral", "alternative")


class EchoMind(Suite):
    """Replies to each delivery (``reply/target``, ...) and multiple choice (``mcq/understanding``, ...)."""

    name = "echo_mind"
    title = "EchoMind, one English script in a target, a neutral and another delivery"
    source = "https://github.com/hlt-cuhksz/EchoMind"
    access = "get the data by https://github.com/hlt-cuhksz/EchoMind and put its folder dataset there"
    licence = "none stated"
    citation = "EchoMind: an interrelated multi-level benchmark for evaluating empathetic speech language models"
    languages = ("en",)
    scoring = (
        "accuracy (multiple choice); an LLM, 1 to 5 of fit, naturalness, colloquialism and use of what was heard;"
        " Gemini, 1 to 5 of vocal empathy"
    )
    measures = ("multiple_choice",)
    folders = ("dataset", "")
    unconfirmed = (
        "the keys of a script's words (speak_A is read) and of a right answer (answer is read, a letter or an option),"
        " which of the three deliveries its conflict set joins, and what the alternative sounds like, which has no"
        " label here; its own instructions are not used"
    )

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read scripts and multiple choice of all kinds of data that are there."""
        for file in self.files(folder, "script_info_*.json"):
            kind = file.parent.name.removeprefix("data_")
            for row in json_rows(file, self.skip):
                for delivery in _DELIVERIES:
                    yield from self._reply(row, file.parent, kind, delivery)
        for file in self.files(folder, "*.json"):
            if file.parent.name == "MCQ":
                for row in json_rows(file, self.skip):
                    yield from self._choice(row, file)

    def _reply(self, row: Row, home: Path, kind: str, delivery: str) -> Iterator[Utterance]:
        info = row.values.get(f"{delivery}_audio_info")
        named = info.get(f"{delivery}_input_audio_file") if isinstance(info, dict) else None
        if named is None:
            return  # Scripts on who speaks have no neutral delivery.
        path = located(home / "audio", named)
        if path is None:
            self.skip(f"{row.place}, {delivery}", "no audio file")
            return
        spoken = str(row.values.get("spoken_info", ""))
        yield Utterance(
            id=f"{kind}-{row.values.get('case_id')}-{delivery}",
            corpus=self.name,
            path=path,
            transcript=row.values.get("speak_A"),
            language="en",
            session=f"{kind}-{row.values.get('case_id')}",
            emotion=_felt(spoken, delivery),
            raw_labels={"spoken_info": spoken, "topic": str(row.values.get("topic", ""))},
            ability=f"reply/{delivery}",
        )

    def _choice(self, row: Row, file: Path) -> Iterator[Utterance]:
        values: dict[str, Any] = row.values
        home = file.parent.parent
        options = options_of(values.get("options_text"))
        answer = letter_of(values.get("answer"), options)
        path = located(home / "audio", f"{values.get('audio_dir')}/{values.get('audio_name')}")
        if answer is None or path is None:
            lacking = "no audio file" if path is None else "no answer among the options"
            self.skip(row.place, lacking)
            return
        yield Utterance(
            id=f"{home.name.removeprefix('data_')}-{file.stem}-{values.get('question_id')}",
            corpus=self.name,
            path=path,
            language="en",
            prompt=asked(str(values.get("question", "")), options),
            raw_labels=labels_of(options),
            ability=f"mcq/{file.stem}",
            references=[answer],
        )


def _felt(spoken: str, delivery: str) -> str | None:
    """The emotion of a delivery, where it is one: ``happy-toned expressive voice`` is happy."""
    if delivery == "neutral":
        return "neutral"
    if delivery == "target" and "-toned" in spoken:
        return emotion_named(spoken.partition("-toned")[0])
    return None
