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
from empathy_lightning.modules.chat_format import (
    before_reply,
    control_pattern,
    end_token_id,
    literal_ids,
    with_system,
)

EMPATHY_SYSTEM = (
    "You are an empathetic spoken chatbot. Please provide a very short but helpful response "
    "to the user with empathy toward the user's emotional tone."
)
"""FreezeEmpath's system message (released inference code)."""

SPEECH_ONLY = "{speech}"
SPEECH_AND_EMOTION = "{speech}(with a {emotion} emotional tone)."

_SLOT = re.compile(r"\{(speech|emotion)\}")

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
            InputError: If the user's turn has no ``{speech}`` slot, or the template does not keep each turn's words.
        """
        if "{speech}" not in self.user:
            raise InputError(f"the prompt {self.user!r} has no {{speech}} slot")
        marks = _Marks(tokenizer, f"{self.user} {self.system} {tokenizer.chat_template}")
        user = {"role": "user", "content": marks.words_and_slots(self.user)}
        earlier = [user, {"role": "assistant", "content": marks.of("reply")}]
        system = None if self.system is None else marks.literal(self.system)
        messages = with_system(tokenizer, system, [*earlier * turns, user])
        try:
            text = before_reply(tokenizer, messages)
        except ValueError as error:
            raise InputError(f"the model's chat template cannot be used: {error}") from None
        segments = marks.cut(text)
        slots = [*_SLOT.findall(self.user), "reply"] * (turns + 1)
        if [segment for segment in segments if isinstance(segment, str)] != slots[:-1]:
            raise InputError("the model's chat template does not keep the words of each turn: give another model")
        return segments

    def text_ids(self, tokenizer: Any, **slots: str) -> list[int]:
        """Fill the slots with words and return the prompt's token ids.

        Args:
            tokenizer: As for :meth:`segments`.
            **slots: ``speech`` (the transcript) and, if the prompt has the slot, ``emotion`` (its label).
        """
        return fill(self.segments(tokenizer), {name: literal_ids(tokenizer, text) for name, text in slots.items()})


class _Marks:
    """Plain words that stand for slots and written-out control tokens while a template lays out a chat.

    A template may trim, escape or rewrite other signs; a word it leaves as it is.

    Args:
        tokenizer: Whose control tokens are meant.
        taken: A text in which the words must not occur.
    """

    def __init__(self, tokenizer: Any, taken: str) -> None:
        self._tokenizer = tokenizer
        self._contents: list[Segment] = []
        self._stem = "Mark"
        while self._stem in taken:
            self._stem += "q"

    def of(self, content: Segment) -> str:
        """The word for a slot's name or for token ids."""
        self._contents.append(content)
        return f"{self._stem}{len(self._contents) - 1}x"

    def literal(self, text: str) -> str:
        """A text with words for the control tokens in it."""
        return control_pattern(self._tokenizer).sub(lambda found: self.of(literal_ids(self._tokenizer, found[0])), text)

    def words_and_slots(self, text: str) -> str:
        """A text with words for its slots too."""
        marked = ""
        # Words and slots in turns, since the pattern's group stands in what is split.
        for index, piece in enumerate(_SLOT.split(text)):
            marked += self.of(piece) if index % 2 else self.literal(piece)
        return marked

    def cut(self, text: str) -> list[Segment]:
        """Token ids and slots of a chat that was laid out."""
        segments: list[Segment] = []
        for index, piece in enumerate(re.split(rf"{self._stem}(\d+)x", text)):
            content: Segment = self._contents[int(piece)] if index % 2 else self._ids(piece)
            if isinstance(content, list) and segments and isinstance(segments[-1], list):
                segments[-1] = segments[-1] + content
            elif content:
                segments.append(content)
        return segments

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids if text else []
        return ids


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
        if isinstance(segment, str):
            segment = slots[segment]
        ids += segment
    return ids


def response_ids(tokenizer: Any, response: str, end: bool = True) -> list[int]:
    """Token ids of a reply with the token that ends it in the tokenizer's chat format; ``end=False`` leaves that out.

    Raises:
        InputError: If the tokenizer has no such token.
    """
    ids = literal_ids(tokenizer, response)
    if not end:
        return ids
    last = end_token_id(tokenizer)
    if last is None:
        raise InputError("the language model's tokenizer has no token that ends a reply: set eos_token in its files")
    return [*ids, last]
