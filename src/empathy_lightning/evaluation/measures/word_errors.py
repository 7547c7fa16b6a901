"""Whether the spoken replies say their text, as a speech recogniser hears them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar

from empathy_lightning.evaluation.measured import Measured, readable_rows, unreadable_in
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance


class WordErrors:
    """Word and character error rates of a recogniser's words against the replies' text, over all replies.

    Both pass Whisper's normaliser first: its English one in English, its basic one otherwise; see
    :class:`.reply_speech.SpeechRecogniser`. FreezeEmpath and LLaMA-Omni2 take openai/whisper-large-v3.

    Args:
        asr: Recogniser, a Whisper or another of transformers', as a model id or a folder.
        asr_language: Code of all replies' language, or ``auto``; None takes each utterance's own.

    Raises:
        InputError: If there is no such recogniser.
    """

    name = "word_errors"
    needs = ("response_path",)
    part = 32
    ratios: ClassVar[dict[str, tuple[str, str]]] = {
        "word_error_rate": ("word_errors", "words"),
        "character_error_rate": ("character_errors", "characters"),
        "words_a_second": ("words", "seconds"),
    }
    lower_is_better = ("word_error_rate", "character_error_rate")

    def __init__(self, asr: str, asr_language: str | None = None) -> None:
        self.asr = asr
        self.recogniser = speech_recogniser(asr, asr_language)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with what was heard, the counts of errors, and the rate of each reply; or why it is ``unreadable``."""
        unreadable: dict[int, str] = {}
        rows: list[dict[str, Any] | None] = []
        for index, heard in enumerate(self.recogniser.measure(replies, unreadable, "listening")):
            if heard is None:
                rows.append({"unreadable": unreadable.get(index)})
            else:
                rows.append({"word_error_rate": heard.word_error_rate, **vars(heard)})
        return Measured(rows, self.figures(replies, rows))

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """How many could not be read, what texts pass through first, and the rates of each of several languages."""
        found: dict[str, Any] = {**unreadable_in(rows), "normaliser": "Whisper's, English or basic"}
        heard = readable_rows(rows)
        languages = sorted({row["language"] for row in heard})
        if len(languages) < 2:
            return found
        for language, name in product(languages, self.lower_is_better):
            errors, units = self.ratios[name]
            own = [row for row in heard if row["language"] == language]
            total = sum(row[units] for row in own)
            if total:
                found[f"{name}_{language}"] = round(sum(row[errors] for row in own) / total, 6)
        return found

    def made_from(self) -> dict[str, str]:
        """The recogniser's content."""
        return {"asr": model_identity(self.asr)}
