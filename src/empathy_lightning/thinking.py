"""What a model says to itself before it answers is no part of its reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from empathy_lightning.modules.chat_format import THINKING_TAGS, opened_tag

# gpt-oss: messages to channels, of which `final` is the reply; where special tokens are gone, nothing tells them apart.
_CHANNELS = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>(?:(?P<final>(?:final|.*?<\|channel\|>final)[^<]*<\|message\|>)|.*\Z)",
    re.DOTALL,
)
_BEGINNINGS = (*THINKING_TAGS, "<|start|>assistant<|channel|>", "<|channel|>")


def thinking_end(text: str, opened: str | None = None) -> int:
    """How many first characters of a reply are thinking; a tag further on is one that the reply speaks of.

    Args:
        text: The reply with its control tokens.
        opened: Opening tag that stood in the prompt, so that the reply may close what it never opened.
    """
    if channels := _CHANNELS.match(text):
        return channels.end()
    end = 0
    if opened is not None:
        end = _block_end(text, opened, 0, depth=1) or 0
    while True:
        start = _after_blanks(text, end)
        opening = next((tag for tag in THINKING_TAGS if text.startswith(tag, start)), None)
        if opening is None:
            return end
        # Thinking that speaks of tags need not pair them; thinking that was cut has no end.
        last = text.rfind(THINKING_TAGS[opening], start)
        unpaired = last + len(THINKING_TAGS[opening]) if last >= 0 else len(text)
        end = _block_end(text, opening, start, depth=0) or unpaired


def settled_end(text: str, opened: str | None = None) -> int | None:
    """As :func:`thinking_end`; None while what is still to come could make it another.

    Args:
        text: The beginning of a reply, with its control tokens.
        opened: As there.
    """
    if channels := _CHANNELS.match(text):
        return None if channels["final"] is None else channels.end()
    end = 0
    if opened is not None:
        closed = _block_end(text, opened, 0, depth=1)
        if closed is None:
            return None
        end = closed
    while True:
        rest = text[end:].lstrip()
        if any(beginning.startswith(rest) for beginning in _BEGINNINGS):
            return None
        opening = next((tag for tag in THINKING_TAGS if rest.startswith(tag)), None)
        if opening is None:
            return end
        closed = _block_end(text, opening, _after_blanks(text, end), depth=0)
        if closed is None:
            return None
        end = closed


def _block_end(text: str, opening: str, start: int, depth: int) -> int | None:
    """Where every block of these tags is closed that is opened from the start on or, as deep as given, before it."""
    closing = THINKING_TAGS[opening]
    for tag in re.compile(f"{re.escape(opening)}|{re.escape(closing)}").finditer(text, start):
        if tag[0] == opening:
            depth += 1
        else:
            depth -= 1
        if depth == 0:
            return tag.end()
    return None


def _after_blanks(text: str, place: int) -> int:
    """The place of the first character from there on that is no white space."""
    return len(text) - len(text[place:].lstrip())


def visible(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Positions of a reply's tokens that are no thinking; all where there is none.

    Args:
        tokenizer: Of the model that replied.
        ids: Token ids of the reply, the end-of-turn token included.
    """
    first, _ = first_said(tokenizer, ids, opened_tag(tokenizer))
    return _without_blocks(tokenizer, ids, first)


def reply_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The words of a reply, without thinking and control tokens; "" where there are none.

    Args:
        tokenizer: Of the model that replied.
        ids: As for :func:`visible`.
    """
    first, inside = first_said(tokenizer, ids, opened_tag(tokenizer))
    said = [ids[position] for position in _without_blocks(tokenizer, ids, first)]
    text: str = tokenizer.decode(said, skip_special_tokens=True)
    return text[inside:].strip()


def is_only_thinking(tokenizer: Any, ids: Sequence[int]) -> bool:
    """Whether a reply got no further than its thinking; one that is empty did not think.

    Args:
        tokenizer: Of the model that replied.
        ids: As for :func:`visible`.
    """
    thought = first_said(tokenizer, ids, opened_tag(tokenizer)) != (0, 0)
    return thought and not reply_text(tokenizer, ids)


def _without_blocks(tokenizer: Any, ids: Sequence[int], first: int) -> list[int]:
    """Positions from the first on, but for thinking that begins anew: between tags that are special tokens.

    A tag in the tokens of words, or in one that counts as a word, may be what the reply speaks of.
    """
    closing_of = special_tags(tokenizer)
    said = []
    closing: int | None = None
    for position in range(first, len(ids)):
        if closing is None:
            closing = closing_of.get(ids[position])
            if closing is None:
                said.append(position)
        elif ids[position] == closing:
            closing = None
    return said


def special_tags(tokenizer: Any) -> dict[int, int]:
    """Tags of thinking that are special tokens: the id that opens, with the one that closes."""
    special = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    closing_of: dict[int, int] = {}
    for opened, closed in THINKING_TAGS.items():
        if opened in special and closed in special:
            closing_of[special[opened]] = special[closed]
    return closing_of


def first_said(tokenizer: Any, ids: Sequence[int], opened: str | None) -> tuple[int, int]:
    """The first token that is no thinking, or not all, and how many of its characters are.

    Args:
        tokenizer: Of the model that replied.
        ids: As for :func:`visible`.
        opened: As for :func:`thinking_end`.
    """
    text = tokenizer.decode(ids, skip_special_tokens=False)
    end = thinking_end(text, opened)
    if end == 0:
        return 0, 0
    begin = _after_blanks(text, end)
    start = 0
    for position in range(len(ids)):
        # The whole beginning each time, since a token by itself may be decoded to other characters.
        after = len(tokenizer.decode(ids[: position + 1], skip_special_tokens=False))
        if after > begin:
            return position, max(0, end - start)
        start = after
    return len(ids), 0
