"""Whether the spoken replies carry the emotion that they should and say their words: URO-Bench's GenEmotion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError
from empathy_lightning.digests import folder_digest
from empathy_lightning.emotion_words import chosen_emotion
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.emotion_rows import expected_field, expected_label
from empathy_lightning.evaluation.measured import Measured, unreadable_in
from empathy_lightning.evaluation.other_recognisers import speech_recogniser
from empathy_lightning.hub import local_folder
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.recogniser import EmotionRecogniser
from empathy_lightning.utterance import Utterance


class SpokenEmotion:
    """Probability of the wanted emotion in a reply's speech, times 1 less its word error rate, times 100.

    URO-Bench asks emotion2vec_plus_large and Whisper-large-v3. Here a recogniser of this library stands in for the
    first, which the figure ``heard_by`` names: figures of two recognisers do not compare, and none with the paper's.
    Words count as wrong against the reply's own text; a rate above 1 counts as 1.

    Args:
        recogniser: Checkpoint that hears emotion, see :class:`.recogniser.EmotionRecogniser`.
        asr: Recogniser of words, see :class:`.word_errors.WordErrors`; None leaves the words out, and the score is the
            probability times 100.
        asr_language: Code of all replies' language, or ``auto``; None takes each utterance's own.
        expected: Where the wanted emotion stands: ``emotion``, or the name of a raw label.
        trust: Packages whose classes the checkpoint may name.

    Raises:
        InputError: If a recogniser cannot be used.
    """

    name = "spoken_emotion"
    part = 32

    def __init__(
        self,
        recogniser: str,
        asr: str | None = None,
        asr_language: str | None = None,
        expected: str = "emotion",
        trust: Sequence[str] = (),
    ) -> None:
        self.folder, self.asr, self.expected = recogniser, asr, expected
        self.needs = ("response_path", expected_field(expected))
        self._ear = EmotionRecogniser.from_pretrained(Path(recogniser), trust=trust)
        if not self._ear.emotions or "categorical" in self._ear.listener.untrained_heads:
            raise InputError(f"{recogniser} has no trained classifier of emotions: no wanted one can be heard with it")
        self._asr = speech_recogniser(asr, asr_language) if asr else None

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``wanted``, its ``probability``, ``right``, ``word_error_rate`` and ``score``.

        None of replies whose wanted emotion the recogniser does not know.
        """
        rows = [self._row(reply) for reply in progress_bar(replies, what="emotion of the replies")]
        rates = self._word_error_rates(replies)
        for row, rate in zip(rows, rates, strict=True):
            if row is None or "probability" not in row:
                continue
            if self._asr is not None:
                row["word_error_rate"] = rate
            row["score"] = round(100 * row["probability"] * (1 - rate), 4)
        return Measured(rows, self.figures(replies, rows))

    def _word_error_rates(self, replies: Sequence[Utterance]) -> list[float]:
        """In 0..1; 0 where nobody listens to the words, 1 of a reply without any."""
        if self._asr is None:
            return [0.0] * len(replies)
        rates = []
        for heard in self._asr.measure(replies, {}, "listening"):
            rate = None if heard is None else heard.word_error_rate
            rates.append(1.0 if rate is None else min(1.0, rate))
        return rates

    def _row(self, reply: Utterance) -> dict[str, Any] | None:
        label = expected_label(reply, self.expected)
        wanted = chosen_emotion(label, self._ear.emotions) if label else None
        if wanted is None:
            return None
        try:
            (heard,) = self._ear.recognise([reply.response_path or ""])
        except AudioError as error:
            return {"unreadable": str(error)}
        right = int(heard.emotion == wanted)
        return {
            "wanted": wanted,
            "heard": heard.emotion,
            "probability": round(heard.probabilities[wanted], 6),
            "right": right,
        }

    def figures(self, replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        """Who heard, what could not be read, and how many wanted emotions are unknown to the recogniser."""
        return {**unreadable_in(rows), "other_labels": list(rows).count(None), "heard_by": self.folder}

    def made_from(self) -> dict[str, str]:
        """Content of the recognisers."""
        found = {"recogniser": folder_digest(local_folder(self.folder))}
        if self.asr:
            found["asr"] = model_identity(self.asr)
        return found
