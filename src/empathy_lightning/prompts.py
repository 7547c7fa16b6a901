"""Chat prompts with slots for speech and emotion, in the chat format of any tokenizer.

A prompt is a list of segments: token ids, or the name of a slot that embeddings
(or, for text, tokens) fill later. FreezeEmpath's input [S, F1, E, F2] is
``"{speech}(with a {emotion} emotional tone)."``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from empathy_lightning.errors import InputError

EMPATHY_SYSTEM = (
    "You are an empathetic spoken chatbot. Please provide a very short but helpful response "
    "to the user with empathy toward the user's emotional tone."
)
"""FreezeEmpath's system message (released inference code)."""

SPEECH_ONLY = "{speech}"
SPEECH_AND_EMOTION = "{speech}(with a {emotion} emotional tone)."

_SLOT = re.compile(r"\{(speech|emotion|reply)\}")

Segment = list[int] | str


@dataclass(frozen=True)
class Prompt:
    """What stands around the speech: a system message and the user's turn with its slots.

    Args:
        user: The user's turn; ``{speech}`` and ``{emotion}`` mark the slots.
        system: System message; None leaves it out, or to the tokenizer's template.
    """

    user: str = SPEECH_AND_EMOTION
    system: str | None = None

    def segments(self, tokenizer: Any, turns: int = 0) -> list[Segment]:
        """Cut the prompt, generation prompt included, at its slots.

        Args:
            tokenizer: A transformers tokenizer with a chat template.
            turns: Earlier turns before the one to be answered; each ends with a ``reply`` slot.

        Returns:
            Token ids and slot names, in order.

        Raises:
            ValueError: If the user's turn has no ``{speech}`` slot.
        """
        if "{speech}" not in self.user:
            raise InputError(f"the prompt {self.user!r} has no {{speech}} slot")
        earlier = [{"role": "user", "content": self.user}, {"role": "assistant", "content": "{reply}"}]
        messages = [*earlier * turns, {"role": "user", "content": self.user}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        pieces = _SLOT.split(text)
        return [
            piece if index % 2 else tokenizer(piece, add_special_tokens=False).input_ids
            for index, piece in enumerate(pieces)
            if piece
        ]

    def text_ids(self, tokenizer: Any, **slots: str) -> list[int]:
        """Fill the slots with words and return the prompt's token ids.

        Args:
            tokenizer: As for :meth:`segments`.
            **slots: ``speech`` (the transcript) and, if the prompt has the slot, ``emotion`` (its label).
        """
        return fill(
            self.segments(tokenizer), {k: tokenizer(v, add_special_tokens=False).input_ids for k, v in slots.items()}
        )


def follow_language(system: str | None, language: str | None) -> str | None:
    """The system message with a sentence that names the language of the reply.

    Args:
        system: System message, or None.
        language: ``"auto"`` asks for the user's own language; any other name for that one; None for nothing.

    Raises:
        InputError: If the name is empty or longer than a line.
    """
    if language is None:
        return system
    if not language.strip() or "\n" in language:
        raise InputError(f"the language {language!r} is no name; give auto, or one such as German")
    wish = "in the same language as the user" if language == "auto" else f"in {language.strip()}"
    return f"{system or ''} Always answer {wish}.".strip()


def fill(segments: Sequence[Segment], slots: Mapping[str, list[int]]) -> list[int]:
    """Join segments into one list of token ids, putting the given ids into the slots.

    Raises:
        KeyError: If a slot is not given.
    """
    ids: list[int] = []
    for segment in segments:
        ids += slots[segment] if isinstance(segment, str) else segment
    return ids


def response_ids(tokenizer: Any, response: str) -> list[int]:
    """Token ids of a reply with the end-of-turn token that stops generation."""
    return [*tokenizer(response, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
