"""The chat format of a tokenizer: its template, its control tokens, and the one that ends a turn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from empathy_lightning.modules.model_files import PretrainedError

_PROBE = "Probe1Word"

THINKING_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    "<unused94>thought": "<unused95>",
}
"""What opens and closes the thinking of chat models; that of gpt-oss has no pair, see ``thinking.py``."""


def render(tokenizer: Any, messages: Sequence[Mapping[str, str]], generation: bool) -> str:
    """Messages in the tokenizer's chat format, without thinking where its template can leave that out.

    Args:
        tokenizer: With a chat template.
        messages: Each with ``role`` and ``content``.
        generation: End with what stands before a reply.

    Raises:
        ValueError: If there is no template, or it refuses the messages; in one line.
    """
    try:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generation, enable_thinking=False, thinking=False
        )
    except Exception as error:  # A template may raise whatever it likes.
        raise ValueError(" ".join(str(error).split())[:150]) from None
    return text


def check_chat_template(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that cannot lay out a chat.

    Raises:
        PretrainedError: If it has no chat template, or one that takes no turn, or no token ends a reply.
    """
    if not tokenizer.chat_template:
        raise PretrainedError(
            f"{name} has no chat template, as base models have none: give a model that was tuned for chats, "
            "or put its chat_template.jinja into the folder"
        )
    user, reply = {"role": "user", "content": _PROBE}, {"role": "assistant", "content": "Yes."}
    try:
        whole = render(tokenizer, [user], True) and render(tokenizer, [user, reply], False)
    except ValueError as error:
        raise PretrainedError(f"the chat template of {name} cannot be used: {error}"[:300]) from None
    if _PROBE not in whole:
        raise PretrainedError(f"the chat template of {name} leaves out what the user says: give another model")
    if end_token_id(tokenizer) is None:
        raise PretrainedError(f"no token of {name} ends a reply: set eos_token in its tokenizer_config.json")


@lru_cache(maxsize=8)
def _takes_system(tokenizer: Any, template: str) -> bool:
    first, user = {"role": "system", "content": _PROBE}, {"role": "user", "content": "Hello"}
    try:
        text = render(tokenizer, [first, user], True)
    except ValueError:
        return False
    try:
        # Some templates take every role but the user's for the assistant's.
        spoken = render(tokenizer, [{**first, "role": "assistant"}, user], True)
    except ValueError:
        spoken = ""
    return _PROBE in text and text != spoken


def with_system(tokenizer: Any, system: str | None, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Messages, the first of them the user's, with a system message: before those words where there is no such role.

    Templates differ: some refuse the role, some leave its text out without a word.
    """
    if system is None:
        return list(messages)
    if _takes_system(tokenizer, str(tokenizer.chat_template)):
        return [{"role": "system", "content": system}, *messages]
    if not system:
        return list(messages)
    first = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}"}
    return [first, *messages[1:]]


def before_reply(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    """A chat up to the first word of the reply.

    Where the template puts more before a reply that is there than before one that is to come (gpt-oss names a channel),
    that belongs to it; where it opens a block of thinking, the block is closed at once.

    Args:
        tokenizer: With a chat template.
        messages: The last is the user's.
    """
    text = render(tokenizer, messages, True)
    try:
        answered = render(tokenizer, [*messages, {"role": "assistant", "content": _PROBE}], False)
    except ValueError:
        answered = text
    lead = answered.rpartition(_PROBE)[0]
    if lead.startswith(text) and lead[len(text) :].strip():
        text = lead
    for opening, closing in THINKING_TAGS.items():
        if text.rstrip().endswith(opening):
            return f"{text.rstrip()}\n\n{closing}\n\n"
    return text


@lru_cache(maxsize=8)
def _opened_tag(tokenizer: Any, template: str) -> str | None:
    try:
        lead = before_reply(tokenizer, [{"role": "user", "content": _PROBE}]).rpartition(_PROBE)[2]
    except ValueError:
        return None
    for opening in THINKING_TAGS:
        if opening in lead:
            return opening
    return None


def opened_tag(tokenizer: Any) -> str | None:
    """The tag by which the template opens a block of thinking before a reply, closed or not; None where it does not."""
    return _opened_tag(tokenizer, str(tokenizer.chat_template or ""))


@lru_cache(maxsize=8)
def _always_thinks(tokenizer: Any, template: str) -> bool:
    try:
        text = render(tokenizer, [{"role": "user", "content": _PROBE}], True).rstrip()
    except ValueError:
        return False
    return text.endswith(tuple(THINKING_TAGS))


def always_thinks(tokenizer: Any) -> bool:
    """Whether the template opens a block of thinking before a reply, and cannot be asked to leave that out."""
    return _always_thinks(tokenizer, str(tokenizer.chat_template or ""))


@lru_cache(maxsize=8)
def _end_token_id(tokenizer: Any, template: str, eos_token_id: int | None) -> int | None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": _PROBE}]
    try:
        _, reply, after = render(tokenizer, turns, False).rpartition(_PROBE)
    except ValueError:
        return eos_token_id
    ids: list[int] = tokenizer(after.strip(), add_special_tokens=False).input_ids if reply else []
    return ids[0] if ids and ids[0] in control_tokens(tokenizer).values() else eos_token_id


def end_token_id(tokenizer: Any) -> int | None:
    """The control token that the template puts after a reply, or else the tokenizer's end of text; None without any."""
    return _end_token_id(tokenizer, str(tokenizer.chat_template or ""), tokenizer.eos_token_id)


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: Any, size: int) -> dict[str, int]:
    added = {token.content: index for index, token in tokenizer.added_tokens_decoder.items()}
    return {content: index for content, index in added.items() if content.strip()}


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """Tokens beside the vocabulary of words, with their ids; runs of white space among them are ordinary text."""
    return _control_tokens(tokenizer, len(tokenizer))


def control_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Finds control tokens that are written out in a text; nothing where there are none."""
    return _control_pattern(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _control_pattern(tokenizer: Any, size: int) -> re.Pattern[str]:
    # A token of one character cannot be cut.
    tokens = [token for token in control_tokens(tokenizer) if len(token) > 1]
    longest_first = sorted(tokens, key=len, reverse=True)
    nothing = r"(?!)"
    return re.compile("|".join(map(re.escape, longest_first)) or nothing)


def literal_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of words that somebody said or wrote: a control token among them is characters like any others."""
    # Tokenizers skip only those control tokens that they call special: cut through all, so that none is whole.
    cuts = [0, *(found.start() + 1 for found in control_pattern(tokenizer).finditer(text)), len(text)]
    ids: list[int] = []
    for start, end in pairwise(cuts):
        if start < end or len(cuts) == 2:
            ids += tokenizer(text[start:end], add_special_tokens=False, split_special_tokens=True).input_ids
    return ids
