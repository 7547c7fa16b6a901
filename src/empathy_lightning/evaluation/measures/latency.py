"""How soon the bot is heard: seconds to the first word and the first sound, and work per second of sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import AudioError, read
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class Latency:
    """Times of a stream that answers one question alone, as in a chat; of the first questions, after one to warm up.

    The clock starts when the whole question is there. They are of this machine, at this moment.

    Args:
        checkpoint: Folder of the bot.
        questions: How many are timed.
        max_new_tokens: Longest reply.
        temperature: Above 0, its words are drawn.
        trust: Packages whose classes the folder may name.

    Raises:
        InputError: If it cannot chat, or no question is to be timed.
    """

    name = "latency"
    needs: tuple[str, ...] = ()
    lower_is_better = ("first_text", "first_audio", "real_time_factor")

    def __init__(
        self,
        checkpoint: str,
        questions: int = 20,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        trust: Sequence[str] = (),
    ) -> None:
        if questions < 1:
            raise InputError("latency.questions has to be at least 1")
        self.questions, self.decoding = questions, Decoding(max_new_tokens, temperature)
        self.bot = EmpatheticChatbot.from_pretrained(Path(checkpoint), trust=trust)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``first_text``, ``first_audio`` (seconds) and ``real_time_factor``; None of those not timed."""
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        few = range(min(self.questions, len(replies)))
        # The first answer of a process also pays for what is loaded and compiled once.
        self._timed(replies[0])
        for index in progress_bar(few, what="latency"):
            rows[index] = self._timed(replies[index])
        return Measured(rows, {"device": str(own_device())})

    def _timed(self, question: Utterance) -> dict[str, Any] | None:
        try:
            waveform = read(question.path, question.start, question.end)
        except AudioError:
            return None
        with self.bot.stream(waveform, decoding=self.decoding) as stream:
            for _ in stream:
                pass
        row: dict[str, Any] = {}
        for name, value in vars(stream.reply.timings).items():
            row[name] = None if value is None else round(value, 4)
        return row
