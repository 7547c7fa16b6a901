"""Which emotion the replies answer, where the suite asked for it: the answer parsed, or one field of a chain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.emotion_rows import figures_of_rows
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.parsing import parser_named
from empathy_lightning.utterance import EMOTIONS, Utterance


class AnsweredEmotion:
    """Speech emotion recognition by what was replied; UA, WA, macro F1.

    Args:
        emotions: The task's categories.
        parser: ``words`` or ``substring``, see :mod:`.parsing`.
        field: Where replies are chains of fields, such as "Emotion: sad. Reply: ..." or JSON, the one that is parsed; a
            reply without it answers nothing.

    Raises:
        InputError: If there is no such parser.
    """

    name = "answered_emotion"
    needs = ("emotion",)

    def __init__(self, emotions: Sequence[str] = EMOTIONS, parser: str = "words", field: str | None = None) -> None:
        self.emotions, self._parse, self.field = list(emotions), parser_named(parser), field

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``emotion`` (None where none is named) and ``right``; None of another label than the task's."""
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            if reply.emotion not in self.emotions:
                rows.append(None)
                continue
            named = self._parse(self._said(reply.response or ""), self.emotions)
            rows.append({"emotion": named, "right": int(named == reply.emotion)})
        if not any(rows):
            raise InputError(f"no question has one of the emotions {', '.join(self.emotions)}")
        return Measured(rows, {**self.figures(replies, rows), "other_labels": rows.count(None)})

    def _said(self, reply: str) -> str:
        """The answer: the reply, or its field up to the end of the line or the next field."""
        if self.field is None:
            return reply
        # It ends with the line, with a JSON text, or where the next field's name begins.
        found = re.search(rf"(?i:\b{re.escape(self.field)})\"?\s*:\s*(.*?)(?=\n|\",|\b[A-Z][\w ]*:|$)", reply)
        return found[1] if found else ""

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Of some of the rows."""
        return figures_of_rows(self.emotions, replies, rows)
