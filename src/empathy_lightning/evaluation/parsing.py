"""From what a model says of an emotion to one of the task's categories.

Parsers, by name:

``words`` (default). The answer is lower-cased and searched for the categories' names and
their synonyms as whole words. A mention right after a negation ("not", "isn't", "neither",
"rather than", ..., with at most one adverb or article between) does not count. If all
mentions that are left belong to one category, that is the answer; if there is none, or
they belong to several, the answer is unparseable.

``substring``. How RE-LLM's code maps the label names of corpora: sad, happy, angry and
neutral are looked for in this order anywhere in the lower-cased text, inside words too
("unhappy" is happy), and the last of the order that is found is taken; anything else must
be the name of a category and nothing more. Its authors published no parser of answers.

An unparseable answer counts as wrong and is reported; it is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SYNONYMS: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "emotionless", "unemotional", "matter-of-fact"),
    "happy": ("happiness", "happily", "joy", "joyful", "cheerful", "delighted"),
    "sad": ("sadness", "sadly", "sorrow", "sorrowful", "unhappy", "unhappiness"),
    "angry": ("anger", "angrily", "furious", "irate", "enraged"),
    "surprised": ("surprise", "surprising", "astonished", "astonishment", "amazed"),
    "fearful": ("fear", "afraid", "scared", "frightened", "terrified"),
    "disgusted": ("disgust", "disgusting", "revolted"),
    "calm": ("calmness", "calmly"),
    "excited": ("excitement",),
    "frustrated": ("frustration",),
}
"""Words that stand for a category, unless they are the name of another one of the task."""

_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|without|than)|n't|\binstead of)\s+(?:(?:an?|the|very|really|\w+ly)\s+)?$"
)


def parse_words(answer: str, emotions: Sequence[str]) -> str | None:
    """The category that an answer names, by whole words and synonyms; None if there is not exactly one.

    Args:
        answer: What the model said.
        emotions: The task's categories.

    Example:
        >>> parse_words("The speaker is not sad; the tone is one of joy.", ["sad", "happy"])
        'happy'
    """
    meaning = {word: name for name in emotions for word in SYNONYMS.get(name, ())}
    meaning |= {name.lower(): name for name in emotions}
    text = answer.lower().replace("\u2019", "'")
    longest_first = sorted(meaning, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
    named = {meaning[mention[0]] for mention in pattern.finditer(text) if not _NEGATION.search(text[: mention.start()])}
    return named.pop() if len(named) == 1 else None


def parse_substring(answer: str, emotions: Sequence[str]) -> str | None:
    """The category by the order of RE-LLM's label mapping; see the module's text."""
    text = answer.lower().strip()
    found = text if text in emotions else None
    for name in ("sad", "happy", "angry", "neutral"):
        if name in text:
            found = name
    return found if found in emotions else None


PARSERS: dict[str, Callable[[str, Sequence[str]], str | None]] = {"words": parse_words, "substring": parse_substring}
"""Parsers by name."""
