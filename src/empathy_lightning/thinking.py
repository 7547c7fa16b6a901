"""What a model says to itself before it answers is no part of its reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from empathy_lightning.modules.chat_format import THINKING_TAGS

_OPENINGS = "|".join(map(re.escape, THINKING_TAGS))
_BLOCKS = [rf"{re.escape(opening)}.*?(?:{re.escape(closing)}|\Z)" for opening, closing in THINKING_TAGS.items()]
# A prompt may have opened the block.
_LATE = rf"\A(?:(?!{_OPENINGS}).)*?(?:{'|'.join(map(re.escape, THINKING_TAGS.values()))})"
# gpt-oss: messages to channels, of which `final` is the reply; where special tokens are gone, nothing tells them apart.
_CHANNELS = r"(?:<\|start\|>assistant)?<\|channel\|>(?:final|.*?<\|channel\|>final)[^<]*<\|message\|>"
_UNFINISHED = r"<\|channel\|>.*\Z"
_THINKING = re.compile("|".join(rf"\s*{part}\s*" for part in [_CHANNELS, _UNFINISHED, *_BLOCKS, _LATE]), re.DOTALL)


def without_thinking(text: str) -> str:
    """A reply without its thinking, closed or not, and without white space at its ends."""
    return _THINKING.sub(" ", text).strip()


def visible(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Positions of a reply's tokens that are no thinking; all where there is none.

    Args:
        tokenizer: Of the model that replied.
        ids: Token ids of the reply, the end-of-turn token included.
    """
    spans = [match.span() for match in _THINKING.finditer(tokenizer.decode(ids, skip_special_tokens=False))]
    if not spans:
        return list(range(len(ids)))
    ends = [len(tokenizer.decode(ids[: count + 1], skip_special_tokens=False)) for count in range(len(ids))]
    starts = [0, *ends[:-1]]
    kept = []
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if not any(first <= start and end <= last for first, last in spans):
            kept.append(position)
    return kept


def reply_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """The words of a reply, without thinking and control tokens."""
    said = [ids[position] for position in visible(tokenizer, ids)]
    text: str = tokenizer.decode(said, skip_special_tokens=True)
    return without_thinking(text)
