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
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
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


def response_ids(tokenizer: Any, response: str, end: bool = True) -> list[int]:
    """Token ids of a reply with the end-of-turn token that stops generation; ``end=False`` leaves that out."""
    ids: list[int] = tokenizer(response, add_special_tokens=False).input_ids
    return [*ids, tokenizer.eos_token_id] if end else ids


@dataclass(frozen=True)
class Recipe:
    """The prompts of a paper.

    Attributes:
        labelled: Transcript and emotion label; the frozen model's answer is the expected response.
        unlabelled: Transcript alone, for semantic alignment.
        spoken: What the trained model is given, speech in the place of the transcript.
        recognition: Asks for the emotion of the speech.
        max_new_tokens: Longest expected response.
    """

    labelled: Prompt
    unlabelled: Prompt
    spoken: Prompt
    recognition: Prompt
    max_new_tokens: int


HELPFUL_SYSTEM = "You are a helpful assistant."
_OPTIONS = "Select from the following options: neutral, sad, angry, happy, or surprise."
_CONTINUE_LABELLED = Prompt(
    "Continue the following sentence that reflects a '{emotion}' emotion tone in a coherent style: {speech}",
    HELPFUL_SYSTEM,
)
_CONTINUE = Prompt("Continue the following sentence in a coherent style: {speech}", HELPFUL_SYSTEM)
_CONTINUE_SPOKEN = Prompt(
    "Continue the following sentence based on the conveyed emotion tone in a coherent style: {speech}", HELPFUL_SYSTEM
)

RECIPES: dict[str, Recipe] = {
    "freezeempath": Recipe(
        labelled=Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM),
        unlabelled=Prompt(SPEECH_ONLY),
        spoken=Prompt(SPEECH_AND_EMOTION, EMPATHY_SYSTEM),
        recognition=Prompt(
            f"{SPEECH_AND_EMOTION} Please identify the emotion tone of the speech provided above. "
            "Select from the following options: neutral, sad, angry, happy, or surprised."
        ),
        max_new_tokens=256,
    ),
    "blsp-emo": Recipe(
        labelled=_CONTINUE_LABELLED,
        unlabelled=_CONTINUE,
        spoken=_CONTINUE_SPOKEN,
        recognition=Prompt(
            f"Please identify the emotion tone of the speech provided below. {_OPTIONS}\n\nSpeech: {{speech}}",
            HELPFUL_SYSTEM,
        ),
        max_new_tokens=48,
    ),
    "re-llm": Recipe(
        labelled=_CONTINUE_LABELLED,
        unlabelled=_CONTINUE,
        spoken=_CONTINUE_SPOKEN,
        recognition=Prompt(
            f"Please identify the emotion tone of the sentence provided below. {_OPTIONS}\n\nSentence: {{speech}}",
            HELPFUL_SYSTEM,
        ),
        max_new_tokens=48,
    ),
}
"""Prompts by paper: FreezeEmpath (arXiv 2604.18159), BLSP-Emo's released code, RE-LLM (arXiv 2602.10716).

The trainers' YAML files give the same words. Two wordings are this library's, because the paper's are not published:
FreezeEmpath's question for the emotion, which offers the names that stage 2a's answers have, and no system message for
its transcripts alone. RE-LLM's paper says "reflects a tone" in its text, and "conveyed emotion tone", as its code does,
in its figure; that is taken here. Its code asks for the emotion of the "speech" where its paper, followed here, says
"sentence": that is the wording of ``blsp-emo``.
"""


def recipe_named(name: str) -> Recipe:
    """The prompts of a paper.

    Raises:
        InputError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe named {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
