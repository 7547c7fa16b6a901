"""The messages of a completion as a conversation: a system message, earlier turns, and what is asked."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.serving.engine import Recalled
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.uploads import decoded

_CALM = "neutral"
"""How words were said that nobody spoke."""


@dataclass(frozen=True)
class Conversation:
    """What a client sends as messages.

    Attributes:
        system: Message of the system; None for the bot's own.
        history: Earlier turns.
        waveform: What is asked, at 16 kHz, shape (T,).
    """

    system: str | None
    history: list[Turn | Recalled]
    waveform: Tensor


async def conversation_of(messages: Any, limits: Limits) -> Conversation:
    """Read messages.

    Raises:
        InputError: If they are no conversation whose last message is the user's, with ``input_audio``.
    """
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InputError("messages has to be a list of objects")
    system, first = None, 1
    if messages and messages[0].get("role") in ("system", "developer"):
        system, first = _words(messages[0], 1), 2
        messages = messages[1:]
    asked: list[Tensor | str] = []
    replies: list[str] = []
    for number, message in enumerate(messages, first):
        role = "user" if len(asked) == len(replies) else "assistant"
        if message.get("role") != role:
            raise InputError(f"message {number}: user and assistant have to take turns")
        if role == "assistant":
            replies.append(_words(message, number))
        else:
            asked.append(await _asked(message, number, limits))
    if len(asked) != len(replies) + 1 or isinstance(asked[-1], str):
        raise InputError("the last message has to be the user's, with input_audio")
    heard = [waveform for waveform in asked if not isinstance(waveform, str)]
    if sum(map(len, heard)) > limits.seconds * limits.turns * SAMPLE_RATE or len(replies) > limits.turns:
        raise InputError(f"the conversation is too long: keep the latest {limits.turns} turns at most")
    history = [_turn(said, reply) for said, reply in zip(asked, replies, strict=False)]
    return Conversation(system, history, asked[-1])


def _turn(said: Tensor | str, reply: str) -> Turn | Recalled:
    return Turn(said, _CALM, reply) if isinstance(said, str) else Recalled(said, reply)


async def _asked(message: dict[str, Any], number: int, limits: Limits) -> Tensor | str:
    """What the user says in a message: a recording, or words."""
    parts = message.get("content")
    sounds = _of_kind(parts, "input_audio") if isinstance(parts, list) else []
    if not sounds or not isinstance(parts, list):
        return _words(message, number)
    if len(parts) > 1:
        raise InputError(f"message {number}: give one input_audio and nothing beside it; words go into another message")
    audio = sounds[0].get("input_audio")
    data = audio.get("data") if isinstance(audio, dict) else None
    if not isinstance(data, str):
        raise InputError(f"message {number}: input_audio needs data, an audio file in base64")
    if data.startswith("data:"):
        # A data URL, as browsers make it of a file.
        data = data.partition(",")[2]
    try:
        content = b64decode(data, validate=True)
    except ValueError:
        raise InputError(f"message {number}: its audio is not in base64") from None
    return await decoded(content, limits, f"the recording in message {number}")


def _of_kind(parts: list[Any], kind: str) -> list[dict[str, Any]]:
    """Those parts of a message that are objects of a type."""
    return [part for part in parts if isinstance(part, dict) and part.get("type") == kind]


def _words(message: dict[str, Any], number: int) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in _of_kind(content, "text")]
        content = " ".join(map(str, parts)) if len(parts) == len(content) else None
    if not isinstance(content, str) or not content.strip():
        raise InputError(f"message {number}: give words as content (nothing is stored, no audio by its id either)")
    return content
