"""What all ways to ask share: the engine, its limits, and how a question is made of what a client sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from torch import Tensor

from empathy_lightning.audio import LONGEST
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError, meant
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.prompts import Prompt, follow_language
from empathy_lightning.serving.answering import Answering
from empathy_lightning.serving.engine import Engine, Question, Recalled
from empathy_lightning.serving.limits import Limits, Refused
from empathy_lightning.serving.metrics import Metrics

_KINDS: dict[str, Any] = {
    "seed": int,
    "temperature": float,
    "top_p": float,
    "max_new_tokens": int,
    "unit_temperature": float,
    "language": str,
    "aloud": bool,
}
"""What a client may choose, and what each value is."""


@dataclass
class Service:
    """One bot, and how it is asked.

    Attributes:
        name: Of the bot, for those who ask which models there are.
        engine: Answers.
        metrics: Counts.
        decoding: How replies are chosen where a client does not say; their longest length holds for all.
        language: Of the replies, likewise.
        conversations: Live ones that there may be.
        ending: Set as soon as the server is about to end.
        reading: Requests that are being read and decoded.

    Raises:
        InputError: If it is to hear longer speech than the bot can.
    """

    name: str
    engine: Engine
    metrics: Metrics
    decoding: Decoding
    language: str | None = None
    conversations: asyncio.Semaphore = field(init=False)
    ending: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    reading: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.limits.seconds > LONGEST:
            raise InputError(f"at most {LONGEST:.0f} s of speech can be answered: give fewer --seconds")
        self.conversations = asyncio.Semaphore(self.limits.conversations)

    @property
    def bot(self) -> EmpatheticChatbot:
        """Who answers."""
        return self.engine.bot

    @property
    def limits(self) -> Limits:
        """What is taken on."""
        return self.engine.limits

    @property
    def sample_rate(self) -> int | None:
        """Of the replies' sound, in Hz; None for a bot without a voice."""
        talker = self.bot.model.talker
        return None if talker is None else talker.sample_rate

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Read and decode a request inside; all that are held in memory are as many as may be asked at once.

        Raises:
            Refused: If there are too many.
        """
        limits = self.limits
        if self.reading >= limits.waiting + limits.batches * limits.batch_size:
            raise Refused(429, f"{self.reading} requests are being read: ask again later", self.engine.retry_after)
        self.reading += 1
        try:
            yield
        finally:
            self.reading -= 1

    def ask(self, question: Question) -> Answering:
        """Ask a question.

        Raises:
            Refused: If it cannot be taken.
        """
        return Answering(self.engine, self.metrics, question)

    def question(
        self,
        waveform: Tensor,
        chosen: Mapping[str, Any],
        history: Sequence[Turn | Recalled] = (),
        system: str | None = None,
    ) -> Question:
        """Make a question of what a client sends.

        Args:
            waveform: At 16 kHz, shape (T,), checked.
            chosen: From :func:`options`.
            history: Earlier turns.
            system: System message in the place of the bot's own.
        """
        named = {name: value for name, value in chosen.items() if name not in ("language", "aloud")}
        longest = min(self.decoding.longest, named.pop("max_new_tokens", self.decoding.longest))
        decoding = replace(self.decoding, max_new_tokens=longest, **named)
        aloud = chosen.get("aloud", True) and self.sample_rate is not None
        return Question(waveform, history, self._prompt(chosen.get("language"), system), decoding, aloud)

    def _prompt(self, language: str | None, system: str | None) -> Prompt | None:
        language = language or self.language
        if language is None and system is None:
            return None
        return self.bot.responder.asked(follow_language(system or self.bot.responder.system, language))


def options(values: Mapping[str, Any], others: Sequence[str] = ()) -> dict[str, Any]:
    """What a client chooses, as values of the kinds that they have.

    Args:
        values: By name, as JSON or as words; null and the empty word choose nothing.
        others: Names that mean something else.

    Raises:
        InputError: If a name is unknown or a value of another kind.
    """
    chosen = {}
    for name, value in values.items():
        if name in others or value is None or value == "":
            continue
        if name not in _KINDS:
            raise InputError(f"{name} is no option{meant(name, [*_KINDS, *others])}")
        chosen[name] = _as(_KINDS[name], name, value)
    Decoding(**{name: value for name, value in chosen.items() if name not in ("language", "aloud")})
    follow_language(None, chosen.get("language"))
    return chosen


def _as(kind: type, name: str, value: Any) -> Any:
    if kind is bool and str(value).lower() in ("true", "false", "1", "0"):
        return str(value).lower() in ("true", "1")
    if kind is str and isinstance(value, str):
        return value
    if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = kind(value)
            # A larger one fits into no 64-bit integer.
            if isfinite(number) and abs(number) < 1 << 63:
                return number
    raise InputError(f"{name} {str(value)[:40]!r} is no {kind.__name__}")
