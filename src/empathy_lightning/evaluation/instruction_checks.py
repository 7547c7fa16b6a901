"""Whether a text follows an instruction that a program can check: the 25 kinds of IFEval (arXiv 2311.07911).

Names and arguments of the kinds are those of its data. Sentences, words in capitals and languages are told by rules of
this library's own, where its authors' program takes NLTK; the language only where ``langdetect`` is installed.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from empathy_lightning.errors import InputError, meant

Check = Callable[..., bool | None]
"""From a text and a kind's arguments to whether it is followed; None where that cannot be told here."""

_SENTENCE_END = re.compile(r"[.!?]+[\"')\]\u201d\u2019]*(?=\s|$)|[\u3002\uff01\uff1f]")
_NO_END = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|vs|etc|e\.g|i\.e|[a-z])\.$", re.IGNORECASE)
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(kind: str, arguments: Mapping[str, Any], text: str) -> bool | None:
    """Whether a text follows an instruction; None where that cannot be told here.

    Args:
        kind: Such as ``length_constraints:number_words``.
        arguments: Of that kind; those that are None do not count.
        text: What was said.

    Raises:
        InputError: If there is no such kind, or its arguments are others.
    """
    if kind not in CHECKS:
        raise InputError(f"no instruction is named {kind!r}{meant(kind, CHECKS)}; there are {', '.join(CHECKS)}")
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return CHECKS[kind](text, **given)
    except (TypeError, ValueError, re.error) as error:
        raise InputError(f"instruction {kind} with {given}: {error}") from None


def follows_loosely(kind: str, arguments: Mapping[str, Any], text: str) -> bool | None:
    """Whether a text follows an instruction with or without its first line, its last line, and its asterisks."""
    lines = text.split("\n")
    parts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = ["\n".join(part).strip() for part in parts]
    texts += [other.replace("*", "") for other in texts]
    told = [follows(kind, arguments, other) for other in texts if other.strip()]
    return None if None in told else any(told)


def sentences_in(text: str) -> int:
    """How many sentences a text has; initials and common short forms end none.

    >>> sentences_in("Mr. Smith came. He left at 4.30! Why"), sentences_in("")
    (3, 0)
    """
    ends = []
    for mark in _SENTENCE_END.finditer(text):
        # "Dr." and "e.g." are told by what stands before the mark, with it.
        if not _NO_END.search(text[: mark.start() + 1]):
            ends.append(mark.end())
    rest = text[ends[-1] :] if ends else text
    return len(ends) + bool(rest.strip())


def _compared(count: int, relation: str, limit: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"relation is 'less than' or 'at least', not {relation!r}")
    return count < limit if relation == "less than" else count >= limit


def _existence(text: str, keywords: list[str]) -> bool:
    return all(re.search(keyword, text, re.IGNORECASE) for keyword in keywords)


def _frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compared(len(re.findall(keyword, text, re.IGNORECASE)), relation, frequency)


def _forbidden(text: str, forbidden_words: list[str]) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in forbidden_words)


def _letters(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compared(text.lower().count(letter.lower()), let_relation, let_frequency)


def _language(text: str, language: str) -> bool | None:
    if importlib.util.find_spec("langdetect") is None:
        return None
    from langdetect import DetectorFactory, LangDetectException, detect

    # Otherwise its guesses are drawn anew each time.
    DetectorFactory.seed = 0
    try:
        return bool(detect(text) == language)
    except LangDetectException:
        return True


def _sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _compared(sentences_in(text), relation, num_sentences)


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    # IFEval has paragraphs parted by three asterisks.
    return _full_pieces(re.split(r"\s?\*\*\*\s?", text)) == num_paragraphs


def _full_pieces(pieces: list[str]) -> int | None:
    """How many pieces have words; blank ones at both ends do not count, and one between others spoils it."""
    inside = pieces[1:-1]
    if any(not piece.strip() for piece in inside):
        return None
    return sum(bool(piece.strip()) for piece in pieces)


def _words(text: str, num_words: int, relation: str) -> bool:
    return _compared(len(re.findall(r"\w+", text)), relation, num_words)


def _first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    paragraphs = text.split("\n\n")
    full = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if full != num_paragraphs or not 1 <= nth_paragraph <= len(paragraphs):
        return False
    begins = paragraphs[nth_paragraph - 1].strip().lstrip("'\"")
    word = re.match(r"[^\s.,?!'\"]*", begins)
    return word is not None and word[0].lower() == first_word.lower()


def _placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def _postscript(text: str, postscript_marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = known.get(postscript_marker, re.escape(postscript_marker.lower()))
    return re.search(pattern, text.lower()) is not None


def _bullets(text: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def _constrained(text: str) -> bool:
    return any(answer in text.strip() for answer in _ANSWERS)


def _highlights(text: str, num_highlights: int) -> bool:
    single = re.findall(r"\*([^\n*]*)\*", text)
    double = re.findall(r"\*\*([^\n*]*)\*\*", text)
    return sum(bool(words.strip()) for words in [*single, *double]) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{section_spliter}\s?\d+\s?", text)) - 1 >= num_sections


def _json(text: str) -> bool:
    inside = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(inside)
    except ValueError:
        return False
    return True


def _title(text: str) -> bool:
    return any(title.strip() for title in re.findall(r"<<([^\n]+?)>>", text))


def _two_responses(text: str) -> bool:
    pieces = text.split("******")
    return _full_pieces(pieces) == 2 and len({piece.strip() for piece in pieces if piece.strip()}) == 2


def _repeat(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def _end(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def _quotation(text: str) -> bool:
    inside = text.strip()
    return len(inside) > 1 and inside[0] == inside[-1] == '"'


def _capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    capitals = [word for word in re.findall(r"\w[\w'\u2019-]*", text) if word.isupper()]
    return _compared(len(capitals), capital_relation, capital_frequency)


def _upper(text: str) -> bool:
    return text.isupper() and _language(text, "en") is not False


def _lower(text: str) -> bool:
    return text.islower() and _language(text, "en") is not False


def _no_comma(text: str) -> bool:
    return "," not in text


CHECKS: dict[str, Check] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _upper,
    "change_case:english_lowercase": _lower,
    "punctuation:no_comma": _no_comma,
}
"""What checks each kind of instruction."""
