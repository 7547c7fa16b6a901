"""Multiple choice: the letter that a reply names, or none; nothing is guessed.

A letter is named where the reply's first line begins with it (``B``, ``b)``, ``**B.** happy``, ``B: happy``), where it
stands in brackets as a capital (``(B)``), or where the reply says that it is the answer or an option (``the answer is
B``, ``option B``, ``Answer: [B]``, ``I choose B``, and the like in Chinese) without a "not" before. Where the options'
texts are known, a reply that names no letter but holds the text of exactly one option names that. ``a`` with a word
behind it is the article.

A reply that names no option is unmatched, one that names several is ambiguous: both are wrong, and both shares are
reported. VoiceBench guesses at random there, so its accuracy is higher, by up to the unmatched share divided by the
number of options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured, means_of
from empathy_lightning.evaluation.measures.exists_match import found_in
from empathy_lightning.evaluation.suites.asking import OPTION
from empathy_lightning.utterance import Utterance

_MARKS = re.compile(r"[*_`\"\u201c\u201d]|<[^<>]*>")
_IS = r"(?:\s+(?:is|was|would be|should be|has to be|must be))?"
_SAID = (
    rf"(?<![a-z])(?:answer|option|choice){_IS}\s*[:\uff1a]?\s*(?:option\s+)?",
    r"(?<![a-z])(?:choose|pick|select|go with|go for)\s+(?:option\s+)?",
    r"(?:\u7b54\u6848|\u9009\u9879|\u9009\u62e9|\u9009)\s*(?:\u662f|\u4e3a)?\s*[:\uff1a]?\s*",
)
"""What comes before a letter that is chosen; the last line is Chinese: answer, option, choose."""

_STOP = r"(?:[)\]\uff09\uff1a\uff0c\uff1b\u3001\u3002]|[.:,;!?](?![A-Za-z0-9]))"
"""What may stand right behind a letter."""

_YES_NO = ("YES", "NO")


class MultipleChoice:
    """Accuracy of the letters that replies name, with the shares of those that name none or several.

    Where the right answer is yes or no, that is looked for instead.

    Args:
        letters: The options of a question whose own are not known.

    Raises:
        InputError: If those are not two or more capital letters.
    """

    name = "multiple_choice"
    needs: tuple[str, ...] = ("references",)

    def __init__(self, letters: str = "ABCD") -> None:
        if not re.fullmatch("[A-Z]{2,26}", letters):
            raise InputError(f"multiple_choice.letters {letters!r}: give two or more capital letters, such as ABCD")
        self.letters = letters

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``chosen`` (a letter, YES, NO or None), ``correct``, ``unmatched``, ``ambiguous`` (0 or 1)."""
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            options = _options(reply)
            letters = "".join(options) if len(options) > 1 else self.letters
            wanted = reply.references[0].strip().strip("()").upper() if reply.references else ""
            # "" stands in any text, and "AB" in "ABCD".
            is_letter = len(wanted) == 1 and wanted in letters
            if reply.response is None or not (is_letter or wanted in _YES_NO):
                rows.append(None)
                continue
            rows.append(_row(reply.response, wanted, letters, options))
        return Measured(rows, means_of(rows))


def _row(reply: str, wanted: str, letters: str, options: Mapping[str, str]) -> dict[str, Any]:
    named = yes_or_no_in(reply) if wanted in _YES_NO else letters_in(reply, letters, options)
    return {
        "chosen": next(iter(named)) if len(named) == 1 else None,
        "correct": int(named == {wanted}),
        "unmatched": int(not named),
        "ambiguous": int(len(named) > 1),
    }


def letters_in(reply: str, letters: str, options: Mapping[str, str] | None = None) -> set[str]:
    """The options that a reply names.

    Args:
        reply: What was said.
        letters: Two or more capital letters of the options.
        options: Their texts by letter, where they are known.

    >>> sorted(letters_in("(B) happy", "ABCD")), sorted(letters_in("A friend of mine", "ABCD"))
    (['B'], [])
    """
    lines = [" ".join(line.split()) for line in _MARKS.sub(" ", reply).splitlines()]
    lines = [line for line in lines if line]
    first, anywhere = _patterns(letters)
    named = {found[1].upper() for found in first.finditer(lines[0])} if lines else set()
    for pattern in anywhere:
        named |= {found[1].upper() for found in pattern.finditer(" ".join(lines))}
    if named or not options:
        return named
    return {letter for letter, option in options.items() if found_in(reply, [option])}


def yes_or_no_in(reply: str) -> set[str]:
    """Yes or no, where a reply begins or ends with it, or names it as the answer.

    >>> sorted(yes_or_no_in("The answer is **no**, since she lies.")), sorted(yes_or_no_in("I know no one."))
    (['NO'], [])
    """
    words = re.findall(r"[^\W_]+", reply.upper())
    ends = [words[0], words[-1]] if words else []
    named = re.findall(r"\bANSWER(?: IS)? (YES|NO)\b", " ".join(words))
    return {word for word in (*ends, *named) if word in _YES_NO}


@lru_cache(maxsize=32)
def _patterns(letters: str) -> tuple[re.Pattern[str], list[re.Pattern[str]]]:
    """What names a letter at the beginning of the first line, and what does so anywhere."""
    any_case = f"[{letters}{letters.lower()}]"
    first = re.compile(rf"^[(\[\uff08]?({any_case})(?:$|{_STOP})")
    anywhere = [re.compile(rf"[(\[\uff08]([{letters}])[)\]\uff09]")]
    # An "a" or "A" counts where its clause ends with it: "the answer is A friend" names none.
    ends = rf"(?:$|{_STOP}|\s+(?:because|since|as|and|or)\b)"
    others = letters.replace("A", "")
    for said in _SAID:
        before = rf"(?<!not )(?<!n't )(?i:{said})[(\[\uff08]?"
        anywhere.append(re.compile(rf"{before}({any_case})(?={ends})"))
        anywhere.append(re.compile(rf"{before}([{others}])(?![A-Za-z0-9'])"))
    return first, anywhere


def _options(reply: Utterance) -> dict[str, str]:
    found = {}
    for label, text in reply.raw_labels.items():
        if label.startswith(OPTION):
            found[label.removeprefix(OPTION)] = text
    return found
