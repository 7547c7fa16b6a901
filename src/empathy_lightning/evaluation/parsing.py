"""From what a model says of an emotion to one of the task's categories.

Parsers, by name:

``words`` (default). The answer is lower-cased and searched for the categories' names and
their other words (:mod:`empathy_lightning.emotion_words`) as whole words. A mention right
after a negation ("not", "isn't", "neither", "rather than", ..., with at most one adverb or
article between, or "at all", or another mention and "or") does not count, and adverbs
("sadly") count only where there is no other mention. If all
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

from empathy_lightning.emotion_words import normalised, words_for
from empathy_lightning.errors import InputError, meant

_NEGATION = re.compile(
    r"(?:\b(?:not|no longer|no|never|neither|nor|without|than|anything but)|n't|\binstead of)\s+"
    r"(?:at all\s+)?(?:(?:an?|the|very|really|\w+ly)\s+)?(?:[\w-]+\s+or\s+)?$"
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
    meaning: dict[str, str] = {}
    for name in emotions:
        meaning |= dict.fromkeys(words_for(name), name)
    # A category's own name goes before another one's synonym.
    meaning |= {normalised(name): name for name in emotions}
    text = answer.lower().replace("\u2019", "'")
    # An alternation takes the first word that fits: one that begins with another has to stand before it.
    longest_first = sorted(meaning, key=len, reverse=True)
    spelt = "|".join(r"[\s_-]+".join(map(re.escape, word.split())) for word in longest_first)
    mentions = re.compile(rf"(?<![\w-])(?:{spelt})(?![\w-])").finditer(text)
    words = [normalised(found[0]) for found in mentions if not _NEGATION.search(text[: found.start()])]
    # "Sadly, the speaker is angry", "I am glad you ask": such words count where there are no others.
    firm = [word for word in words if not word.endswith("ly") and word != "glad"]
    named = {meaning[word] for word in firm or words}
    return named.pop() if len(named) == 1 else None


def parse_substring(answer: str, emotions: Sequence[str]) -> str | None:
    """The category by the order of RE-LLM's label mapping; see the module's text."""
    text = answer.lower().strip()
    found = text if text in emotions else None
    for name in ("sad", "happy", "angry", "neutral"):
        if name in text:
            found = name
    return found if found in emotions else None


Parser = Callable[[str, Sequence[str]], str | None]
"""From an answer and the task's categories to one of these; None if it names none."""

PARSERS: dict[str, Parser] = {"words": parse_words, "substring": parse_substring}
"""Parsers by name."""


def parser_named(name: str) -> Parser:
    """A parser by its name.

    Raises:
        InputError: If there is none.
    """
    if name not in PARSERS:
        raise InputError(f"no parser named {name!r}; there are {', '.join(PARSERS)}{meant(name, PARSERS)}")
    return PARSERS[name]
