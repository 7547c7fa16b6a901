"""How a multiple-choice question is asked of a bot that hears a recording, and how its options are kept."""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Any

OPTION = "option "
"""What stands before an option's letter in the raw labels."""

_AFTER = r"[)\].:,\u3001\uff1a\uff0e]"
_LETTERED = re.compile(rf"^\s*[(\[]?([A-Z]){_AFTER}\s*(.+?)\s*$", re.MULTILINE)


def options_of(value: Any) -> dict[str, str]:
    r"""Options by letter: of an object with letters, a list in their order, or lines such as ``A. sad``.

    >>> options_of(["sad", "B. happy"]), options_of("A. sad\n(B) happy")
    ({'A': 'sad', 'B': 'happy'}, {'A': 'sad', 'B': 'happy'})
    """
    if isinstance(value, str):
        return dict(_LETTERED.findall(value))
    if isinstance(value, dict):
        return {str(letter).strip().upper(): str(text).strip() for letter, text in value.items()}
    texts = value if isinstance(value, list) else []
    options = {}
    for letter, text in zip(ascii_uppercase, texts, strict=False):
        lettered = _LETTERED.fullmatch(str(text))
        options[letter] = lettered[2] if lettered else str(text).strip()
    return options


def letter_of(answer: Any, options: dict[str, str]) -> str | None:
    """The letter of a right answer that is stated as a letter, as an option's text, or as both."""
    if not isinstance(answer, str):
        return None
    text = answer.strip()
    lettered = re.match(rf"[(\[]?([A-Za-z])(?:{_AFTER}|$)", text)
    if lettered and lettered[1].upper() in options:
        return lettered[1].upper()
    found = [letter for letter, option in options.items() if option.casefold() == text.casefold()]
    return found[0] if len(found) == 1 else None


def asked(question: str, options: dict[str, str]) -> str:
    """The user's turn: the recording, the question, its options, and that a letter is wanted.

    Args:
        question: In words.
        options: By letter.
    """
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join(["{speech}", "", question, *lines, "Answer with the letter alone."])


def labels_of(options: dict[str, str]) -> dict[str, str]:
    """Options as raw labels, by which the measure multiple_choice knows them."""
    return {f"{OPTION}{letter}": text for letter, text in options.items()}
