"""Whether the spoken replies say their text, as a speech recogniser hears them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.utterance import Utterance


class WordErrors:
    """Word and character error rates of a recogniser's words against the replies' text, over all replies.

    Both pass Whisper's normaliser first: its English one in English, its basic one otherwise; see
    :class:`.reply_speech.SpeechRecogniser`. FreezeEmpath and LLaMA-Omni2 take openai/whisper-large-v3.

    Args:
        asr: Recogniser, a Whisper or another of transformers', as a model id or a folder.
        language: Code of all replies' language, or ``auto``; None takes each utterance's own.

    Raises:
        InputError: If there is no such recogniser.
    """

    name = "word_errors"
    needs = ("response_path",)
    ratios: ClassVar[dict[str, tuple[str, str]]] = {
        "word_error_rate": ("word_errors", "words"),
        "character_error_rate": ("character_errors", "characters"),
        "words_a_second": ("words", "seconds"),
    }
    lower_is_better = ("word_error_rate", "character_error_rate")

    def __init__(self, asr: str, language: str | None = None) -> None:
        self.asr = asr
        self.recogniser = speech_recogniser(asr, language)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with what was heard, the counts of errors, and the rate of each reply; None of unreadable speech."""
        unreadable: list[str] = []
        rows: list[dict[str, Any] | None] = []
        for heard in self.recogniser.measure(replies, unreadable, "listening"):
            rate = None if heard is None else heard.word_error_rate
            rows.append(None if heard is None else {"word_error_rate": rate, **vars(heard)})
        return Measured(rows, {"unreadable": len(unreadable), "normaliser": "Whisper's, English or basic"})

    def made_from(self) -> dict[str, str]:
        """The recogniser's content."""
        return {"asr": model_identity(self.asr)}
