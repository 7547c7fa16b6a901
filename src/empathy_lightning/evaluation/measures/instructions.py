"""Whether the replies follow instructions that a program can check (IFEval, VoiceBench's ifeval)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.instruction_checks import follows, follows_loosely
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.utterance import Utterance

INSTRUCTIONS = "instructions"
"""Raw label of a question: its instructions as a JSON list of a kind and its arguments each."""


class Instructions:
    """Shares of instructions that are followed, and of replies that follow all of theirs, strictly and loosely.

    Loosely a reply may have a first or a last line too many, and asterisks. A reply without words follows none.
    Instructions that cannot be checked here (a language without ``langdetect``) count in no share, and are counted.
    """

    name = "instructions"
    needs: tuple[str, ...] = ("raw_labels",)
    ratios: ClassVar[dict[str, tuple[str, str]]] = {
        "instructions_strict": ("strict", "instructions"),
        "instructions_loose": ("loose", "instructions"),
    }

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the counts, and ``all_strict`` and ``all_loose`` (0 or 1); None of replies without instructions."""
        rows = [self._row(reply) for reply in replies]
        if not any(rows):
            raise InputError("no question has instructions that a program can check (raw label instructions)")
        return Measured(rows, self.figures(replies, rows))

    def _row(self, reply: Utterance) -> dict[str, Any] | None:
        asked = _instructions_of(reply)
        if not asked:
            return None
        text = reply.response or ""
        said = bool(text.strip())
        strict = [said and follows(kind, arguments, text) for kind, arguments in asked]
        loose = [said and follows_loosely(kind, arguments, text) for kind, arguments in asked]
        checked = [told for told in strict if told is not None]
        row: dict[str, Any] = {"unchecked": len(asked) - len(checked), "followed": dict(_named(asked, strict))}
        if checked:
            row |= {"instructions": len(checked), "strict": sum(checked), "loose": sum(map(bool, loose))}
            row |= {"all_strict": int(all(checked)), "all_loose": int(row["loose"] == len(checked))}
        return row

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """How many instructions could not be checked."""
        return {"unchecked": sum(row["unchecked"] for row in rows if row is not None)}


def _named(asked: Sequence[tuple[str, Any]], told: Sequence[bool | None]) -> list[tuple[str, bool | None]]:
    return [(kind, followed) for (kind, _), followed in zip(asked, told, strict=True)]


def _instructions_of(reply: Utterance) -> list[tuple[str, dict[str, Any]]]:
    """Kind and arguments of each instruction."""
    text = reply.raw_labels.get(INSTRUCTIONS)
    if text is None:
        return []
    try:
        return [(str(kind), dict(arguments)) for kind, arguments in json.loads(text)]
    except (ValueError, TypeError):
        raise InputError(f"{reply.corpus}/{reply.id}: its instructions are no list of kinds with arguments") from None
