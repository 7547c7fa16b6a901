"""Whether an answer stands in the reply: the rule of UltraEval-Audio for spoken questions (``qa-exist-match``)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from empathy_lightning.evaluation.measured import Measured, means_of
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.evaluation.reply_speech import Recording
from empathy_lightning.utterance import Utterance


class ExistsMatch:
    """Share of replies in which one of the references is found, word by word; of their text and, by ear, their speech.

    Args:
        asr: Recogniser that hears the spoken replies, a model id or folder; None measures the text alone. UltraEval
            takes openai/whisper-large-v3.
        asr_language: Code of all replies' language, or ``auto``; None takes each utterance's own.

    Raises:
        InputError: If there is no such recogniser.
    """

    name = "exists_match"
    needs: tuple[str, ...] = ("references",)

    def __init__(self, asr: str | None = None, asr_language: str | None = None) -> None:
        self.recogniser = speech_recogniser(asr, asr_language) if asr else None

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``correct`` (0 or 1) and, by ear, ``heard`` and ``correct_heard``.

        A reply without speech is heard as nothing, and so is wrong; one whose speech cannot be read counts for
        nothing by ear, and is counted as ``unreadable``.
        """
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            correct = found_in(reply.response, reply.references)
            rows.append(None if correct is None else {"correct": int(correct)})
        figures = {}
        if self.recogniser is not None:
            # Before the means, since it adds to the rows.
            figures["unreadable"] = self._listen(replies, rows)
        return Measured(rows, figures | means_of(rows))

    def _listen(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> int:
        """Add to the rows what was heard; how many could not be read."""
        assert self.recogniser is not None
        spoken: list[Recording | None] = []
        for reply, row in zip(replies, rows, strict=True):
            path = None if row is None else reply.response_path
            spoken.append(None if path is None else Recording(path, language=reply.language))
        unreadable: dict[int, str] = {}
        heard = self.recogniser.listen(spoken, unreadable, "listening")
        for reply, recording, row, said in zip(replies, spoken, rows, heard, strict=True):
            if row is None:
                continue
            if said is None and recording is not None:
                row["heard"] = row["correct_heard"] = None
                continue
            row["heard"] = "" if said is None else said[0]
            row["correct_heard"] = int(bool(found_in(row["heard"], reply.references)))
        return len(unreadable)


def found_in(reply: str | None, references: Sequence[str]) -> bool | None:
    """Whether the tokens of a reference stand side by side in a reply's; None without a reply or a reference.

    >>> found_in("It is Sir Edward Elgar.", ["Elgar"]), found_in("Elgarian", ["Elgar"])
    (True, False)
    """
    wanted = [tokens for tokens in map(tokens_of, references) if tokens]
    if reply is None or not wanted:
        return None
    said = tokens_of(reply)
    return any(_stands_in(tokens, said) for tokens in wanted)


def tokens_of(text: str) -> list[str]:
    """Tokens in lower case: runs of letters, digits and marks after NFD, and each other visible character by itself.

    >>> tokens_of("Cafe\u0301 no. 5!")
    ['cafe\u0301', 'no', '.', '5', '!']
    """
    tokens: list[str] = []
    for kind, letters in groupby(unicodedata.normalize("NFD", text), _kind):
        if kind == "word":
            tokens.append("".join(letters).lower())
        elif kind == "sign":
            tokens += [sign.lower() for sign in letters]
    return tokens


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)[0]
    if category in "LNM":
        return "word"
    # Separators, and control characters such as line breaks.
    return "blank" if category in "ZC" else "sign"


def _stands_in(wanted: Sequence[str], said: Sequence[str]) -> bool:
    starts = range(len(said) - len(wanted) + 1)
    return any(list(said[start : start + len(wanted)]) == list(wanted) for start in starts)
