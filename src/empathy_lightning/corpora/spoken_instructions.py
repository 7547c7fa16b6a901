"""Spoken instructions and their answers, in the JSON forms of speech-to-speech data sets.

Read are JSON lists and JSON Lines of three kinds: InstructS2S (turns with ``from``,
``speech``, ``text`` and ``unit``), VocalNet (``speech`` and ``units`` beside turns with
``value``), and VoiceAssistant (``question``, ``question_audio``, ``answer``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from empathy_lightning.corpora.corpus import Corpus, decode
from empathy_lightning.utterance import Utterance

Turn: TypeAlias = dict[str, Any]
_SPEECH = ("speech", "audio", "question_audio", "answer_audio")
_TEXT = ("text", "value", "content", "question", "answer")
_UNITS = ("unit", "units", "tgt_units", "answer_token")
_PLACEHOLDER = re.compile(r"<(speech|audio)>\s*")
_UNIT_STRING = re.compile(r"(?:<\d+>|[\d\s,])+")


class SpokenInstructions(Corpus):
    """One utterance per question and answer; the conversation is the session.

    Units that are not written out in the JSON file, but named as a file, stay as the raw label ``units``.

    Args:
        root: Folder with the JSON files, at any depth.
        files: Pattern of the names of the JSON files.
        language: BCP 47 tag of all of them.
        first_turn_only: Whether later turns of a conversation, which lean on what was said before, are left out.
    """

    name = "spoken_instructions"
    title = "Spoken instructions with answers, such as InstructS2S-200K and VoiceAssistant-400K"
    source = "https://huggingface.co/datasets/ICTNLP/InstructS2S-200K"
    access = "download it from https://huggingface.co/datasets/ICTNLP/InstructS2S-200K and unpack it there"
    licence = "CC BY-NC 4.0 (InstructS2S-200K), Apache 2.0 (VoiceAssistant-400K)"
    citation = "Fang et al. 2025, LLaMA-Omni 2, ACL; Xie and Wu 2024, Mini-Omni, arXiv:2408.16725"
    languages = ("en", "zh")
    emotions = {}
    unconfirmed = (
        "the key that holds InstructS2S's turns and the place of its JSON files are guessed (the turns are as its users"
        " quote them); the SNAC tokens of VoiceAssistant are not read as units"
    )

    def __init__(self, root: str, files: str = "*.json*", language: str = "en", first_turn_only: bool = False) -> None:
        super().__init__(root)
        self.pattern = files
        self.language = language
        self.first_turn_only = first_turn_only

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read all conversations of all files."""
        for file in self.files(folder, self.pattern):
            # Files of one name in several folders hold other conversations.
            place = file.relative_to(folder).with_suffix("").as_posix()
            for number, record in enumerate(self._records(file)):
                exchanges = _exchanges(record)
                if not exchanges:
                    self.skip(f"{file}, record {number}", "no question with an answer")
                session = f"{place}-{_name(record, number)}"
                if self.first_turn_only:
                    exchanges = exchanges[:1]
                for turn, (question, answer) in enumerate(exchanges, 1):
                    path, units = _locate(file, _first(question, _SPEECH)), _first(answer, _UNITS)
                    if path is None:
                        audio = str(_first(question, _SPEECH))[:100]
                        self.skip(f"{file}, record {number}, turn {turn}", f"no audio file ({audio})")
                        continue
                    yield Utterance(
                        id=f"{session}-{turn}",
                        corpus=self.name,
                        path=path,
                        transcript=_text(question),
                        language=self.language,
                        session=session,
                        split="train",
                        response=_text(answer),
                        response_path=_locate(file, _first(answer, _SPEECH)),
                        units=_units(units),
                        raw_labels={"units": units} if isinstance(units, str) and _units(units) is None else {},
                    )

    def _records(self, file: Path) -> Iterator[Any]:
        text = decode(file, "gb18030")
        try:
            records = json.loads(text)
            # A file may also hold one conversation alone, as an object or as the list of its turns.
            if isinstance(records, dict) or all(isinstance(turn, dict) and "from" in turn for turn in records):
                records = [records]
            yield from records
        except (ValueError, TypeError):
            for number, line in enumerate(text.splitlines(), 1):
                try:
                    if line.strip():
                        yield json.loads(line)
                except ValueError as error:
                    self.skip(f"{file}, line {number}", f"not JSON ({error})")


def _name(record: Any, number: int) -> str:
    keys = ("split_name", "id", "index", "round")
    parts = [str(record[key]) for key in keys if key in record] if isinstance(record, dict) else []
    return "-".join(parts) or str(number)


def _exchanges(record: Any) -> list[tuple[Turn, Turn]]:
    """Pairs of question and answer."""
    beside: Turn = record if isinstance(record, dict) else {}
    turns = _first(beside, ("conversation", "conversations", "messages")) if beside else record
    if not isinstance(turns, list):
        return _flat_exchange(beside)
    spoken = beside.get("speech")
    # Recordings that stand beside the turns are those of the questions, in their order.
    places = iter(spoken if isinstance(spoken, list) else [spoken])
    pairs: list[tuple[Turn, Turn]] = []
    question: Turn | None = None
    for turn in turns:
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        if role in ("human", "user"):
            question = {"speech": next(places, None), **turn}
        elif role in ("gpt", "assistant") and question is not None:
            # Units beside the turns are those of the first answer.
            units = None if pairs else _first(beside, _UNITS)
            pairs.append((question, {"units": units, **turn}))
            question = None
    return pairs


def _flat_exchange(record: Turn) -> list[tuple[Turn, Turn]]:
    """The one question and answer of a record without turns; none where it has no answer."""
    answer = {key: value for key, value in record.items() if key.startswith("answer") or key in _UNITS}
    question = {key: value for key, value in record.items() if key not in answer}
    return [(question, answer)] if _text(answer) else []


def _first(values: Turn, keys: tuple[str, ...]) -> Any:
    return next((values[key] for key in keys if values.get(key) is not None), None)


def _text(turn: Turn) -> str | None:
    text = _first(turn, _TEXT)
    if not isinstance(text, str):
        return None
    return _PLACEHOLDER.sub("", text).strip() or None


def _units(units: Any) -> list[int] | None:
    if isinstance(units, str) and _UNIT_STRING.fullmatch(units):
        units = [int(unit) for unit in re.findall(r"\d+", units)]
    if not isinstance(units, list) or not units or not all(isinstance(unit, int) for unit in units):
        return None
    return units


def _locate(file: Path, name: Any) -> str | None:
    """The audio file of a name that is absolute, or relative to the JSON file or a folder not far above it."""
    if isinstance(name, dict):
        name = name.get("path")
    if not isinstance(name, str) or not name:
        return None
    for base in list(file.parents)[:4]:
        if (base / name).is_file():
            return str(base / name)
    return None
