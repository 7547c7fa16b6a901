"""What a model says to itself before it answers is no part of its reply."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from empathy_lightning.modules.chat_format import THINKING_TAGS

_OPENINGS = "|".join(map(re.escape, THINKING_TAGS))
# gpt-oss: messages to channels, of which `final` is the reply; where special tokens are gone, nothing tells them apart.
_CHANNELS = re.compile(
    r"\s*(?:<\|start\|>assistant)?<\|channel\|>(?:final|.*?<\|channel\|>final)[^<]*<\|message\|>\s*"
    r"|\s*<\|channel\|>.*\Z",
    re.DOTALL,
)


def without_thinking(text: str, tokens: Collection[str] = ()) -> str:
    """A reply without its thinking, closed or not, and without white space at its ends.

    A tag that is a word of the reply and no token opens a block at the reply's beginning only, and closes one that the
    prompt has opened only on a line of its own: a reply may speak of tags.

    Args:
        text: The reply.
        tokens: Tags that are tokens of the model that replied.
    """
    kept = []
    end = 0
    for start, stop in _spans(text, tokens):
        kept.append(text[end:start])
        end = stop
    return " ".join([*kept, text[end:]]).strip()


def visible(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Positions of a reply's tokens that are no thinking; all where there is none.

    Args:
        tokenizer: Of the model that replied.
        ids: Token ids of the reply, the end-of-turn token included.
    """
    spans = _spans(tokenizer.decode(ids, skip_special_tokens=False), tag_tokens(tokenizer))
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
    return text.strip()


def tag_tokens(tokenizer: Any) -> set[str]:
    """The tags of thinking of which one, or the one that closes it, is a token of its own."""
    tokens: set[str] = set()
    for pair in THINKING_TAGS.items():
        if any(len(tokenizer(tag, add_special_tokens=False).input_ids) == 1 for tag in pair):
            tokens.update(pair)
    return tokens


def _spans(text: str, tokens: Collection[str]) -> list[tuple[int, int]]:
    """Where thinking stands in a text, white space around it included; in order, apart from each other."""
    spans = [found.span() for found in _CHANNELS.finditer(text)]
    if (late := _late(text, tokens)) is not None:
        spans.append((0, late))
    for opening, closing in THINKING_TAGS.items():
        anywhere = "" if opening in tokens else r"\A"
        found = re.compile(rf"{anywhere}\s*{re.escape(opening)}")
        begin = 0
        while block := found.search(text, begin):
            begin = _end_of(text, block.end(), opening, closing)
            spans.append((block.start(), begin))
    return _apart(spans)


def _late(text: str, tokens: Collection[str]) -> int | None:
    """Where a block ends that the prompt has opened."""
    for closing in THINKING_TAGS.values():
        tag = re.escape(closing) if closing in tokens else rf"^[ \t]*{re.escape(closing)}[ \t]*$"
        found = re.search(rf"\A(?:(?!{_OPENINGS}).)*?{tag}\s*", text, re.DOTALL | re.MULTILINE)
        if found is not None:
            return found.end()
    return None


def _end_of(text: str, begin: int, opening: str, closing: str) -> int:
    """The end of a block and of the white space after it; blocks inside it are its own."""
    depth = 1
    for tag in re.finditer(rf"({re.escape(opening)})|{re.escape(closing)}\s*", text[begin:]):
        depth += 1 if tag[1] else -1
        if depth == 0:
            return begin + tag.end()
    return len(text)


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined
