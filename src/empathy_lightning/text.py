"""What a single response must be to be kept: no refusal, not empty, of the right length and script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

from empathy_lightning.utterance import Utterance

Rule = Callable[[Utterance], str | None]
"""Why an utterance's response is dropped, or None to keep it."""

_TYPOGRAPHIC = "\u2019"
"""Apostrophe as typesetters and some models write it."""

# A sign of Kana, Han or Thai by itself; else letters and digits, with apostrophes between them.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\W_]+(?:'[^\W_]+)*")

_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just )?an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:very |so |really )?sorry,? (?:but )?i (?:can't|cannot|can not|don't|do not|won't|am unable)\b"
    r"|\bi (?:can't|cannot|can not|won't|am unable to|am not able to) (?:help|assist|comply|continue|fulfil|respond)"
    r"|\bi(?:'m| am) (?:unable|not able) to (?:help|assist|comply|continue|fulfil|respond)"
    r"|\bi(?:'m| am) not sure what you\b"
    r"|\b(?:please|could you|can you) provide (?:me with )?(?:more|the|a) (?:context|details|information|sentence|text)"
    r"|作为(?:一个|一名)?(?:ai|人工智能|语言模型)|(?:抱歉|对不起)[,\uff0c]?我(?:无法|不能)"
)

_LANGUAGES = {
    "CJK": "zh yue ja ko", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru uk bg sr mk be kk",
    "ARABIC": "ar fa ur", "DEVANAGARI": "hi mr ne", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GREEK": "el",
    "HEBREW": "he", "THAI": "th", "LATIN": "en de fr it es pt nl sv da no fi pl cs tr vi id",
}  # fmt: skip


def words(text: str) -> list[str]:
    """Words in lower case; Chinese, Japanese and Thai characters count as one each.

    Example:
        >>> words("I'm fine, 谢谢!")
        ["i'm", 'fine', '谢', '谢']
    """
    return _WORD.findall(text.replace(_TYPOGRAPHIC, "'").lower())


def published_refusal(utterance: Utterance) -> str | None:
    """The rules of BLSP-Emo's and RE-LLM's released cleaning script.

    Dropped is a response that contains "as an AI language model" or "I'm sorry, but I" in any case, or
    "I'm not sure what you" exactly so. The script's two further rules, about how a
    response starts, are covered by the second.
    """
    text = utterance.response or ""
    lowered = text.lower()
    refuses = "as an ai language model" in lowered or "i'm sorry, but i" in lowered or "I'm not sure what you" in text
    return "refusal" if refuses else None


def refusal(utterance: Utterance) -> str | None:
    """Wider than the published rules: other wordings, typographic apostrophes, requests for context, Chinese.

    It lets sympathy pass that the published rules drop, such as "I'm sorry, but I think it will pass".
    """
    text = " ".join((utterance.response or "").replace(_TYPOGRAPHIC, "'").lower().split())
    return "refusal" if _REFUSALS.search(text) else None


def empty(utterance: Utterance) -> str | None:
    """A response of nothing but spaces."""
    return None if (utterance.response or "").strip() else "empty"


def cut(utterance: Utterance) -> str | None:
    """A response that the longest length ended instead of the model."""
    return "cut at the longest length" if utterance.response_cut else None


def length_within(fewest: int = 1, most: int | None = None) -> Rule:
    """A rule for the number of :func:`words`."""

    def _rule(utterance: Utterance) -> str | None:
        count = len(words(utterance.response or ""))
        if count < fewest:
            return "too short"
        return "too long" if most is not None and count > most else None

    return _rule


@lru_cache(maxsize=65_536)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]


def script_share(text: str, language: str) -> float:
    """Share of the letters that are of the language's script; 1 where the script of the language is not listed.

    Args:
        text: Any text; without letters the share is 0.
        language: BCP 47 tag, of which the first part counts.
    """
    primary = re.split("[-_]", language.lower())[0]
    scripts = {script for script, languages in _LANGUAGES.items() if primary in languages.split()}
    if not scripts:
        return 1.0
    letters = [letter for letter in text if letter.isalpha()]
    return sum(_script(letter) in scripts for letter in letters) / max(1, len(letters))


def in_script(language: str | None = None, share: float = 0.8) -> Rule:
    """A rule for the script of the response; languages that share a script are not told apart.

    Args:
        language: Of all responses; None takes each utterance's own, and keeps those that state none.
        share: Least share of the letters in the language's script.
    """

    def _rule(utterance: Utterance) -> str | None:
        expected = language or utterance.language
        if expected is None or script_share(utterance.response or "", expected) >= share:
            return None
        return "other script"

    return _rule


def apply_rules(utterances: Sequence[Utterance], rules: Sequence[Rule]) -> dict[int, str]:
    """The reason of the first rule that drops it, by the index of each utterance that is dropped."""
    dropped = {}
    for index, utterance in enumerate(utterances):
        reason = next((reason for rule in rules if (reason := rule(utterance))), None)
        if reason:
            dropped[index] = reason
    return dropped
