"""The one list of emotion words: the names that corpora, manifests, prompts and answers share.

A name has spellings, the forms of one word: a label written so is that emotion. It has synonyms too,
other words that mean it: they are understood in a sentence, where a model answers, and offered where
a label is unknown, but a label is never changed to what it only resembles.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

SPELLINGS: dict[str, tuple[str, ...]] = {
    "neutral": ("neutrality", "neutrally", "neutral state"),
    "happy": ("happiness", "happily", "joy", "joyful", "joyous", "joyfully"),
    "sad": ("sadness", "sadly"),
    "angry": ("anger", "angrily", "angered"),
    "surprised": ("surprise", "surprising", "surprisingly", "pleasant surprise", "pleasantly surprised"),
    "fearful": ("fear", "fearfully", "fearfulness"),
    "disgust": ("disgusted", "disgusting"),
    "calm": ("calmness", "calmly"),
    "excited": ("excitement", "excitedly"),
    "frustrated": ("frustration", "frustratedly"),
    "bored": ("boredom",),
    "contempt": ("contemptuous", "contemptuously"),
    "amused": ("amusement",),
    "sleepy": ("sleepiness", "sleepily"),
    "sarcastic": ("sarcasm", "sarcastically"),
    "anxious": ("anxiety", "anxiously"),
    "apologetic": ("apologetically",),
    "assertive": ("assertiveness", "assertively"),
    "concerned": ("concern",),
    "encouraging": ("encouragement", "encouragingly"),
    "other": ("others",),
}
"""Names as the parsers of the corpora give them, each with the other forms of the word, in lower case."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "neutral": ("emotionless", "unemotional", "matter of fact"),
    "happy": ("cheerful", "delighted", "glad"),
    "sad": ("sorrow", "sorrowful", "unhappy", "unhappiness"),
    "angry": ("mad", "furious", "irate", "enraged"),
    "surprised": ("astonished", "astonishment", "amazed", "amazement"),
    "fearful": ("afraid", "scared", "frightened", "terrified"),
    "disgust": ("revolted", "revulsion"),
    "excited": ("enthusiastic", "enthusiasm"),
    "sleepy": ("tired",),
    "anxious": ("nervous", "worried"),
}
"""Other words that stand for a name in an answer, in lower case."""


def normalised(word: str) -> str:
    """A label without the accidents of writing: case, outer blanks, hyphens and underscores.

    >>> normalised("Pleasant_Surprise ")
    'pleasant surprise'
    """
    return " ".join(re.split(r"[\s_\-]+", unicodedata.normalize("NFKC", word).casefold())).strip()


_NAME_OF = {form: name for name, forms in SPELLINGS.items() for form in (name, *forms)}


def emotion_named(word: str) -> str | None:
    """The name of which a word is a spelling; None if it is none of the list.

    >>> emotion_named("Sadness"), emotion_named("furious")
    ('sad', None)
    """
    return _NAME_OF.get(normalised(word))


def words_for(name: str) -> tuple[str, ...]:
    """All words that stand for an emotion in an answer, itself first.

    Args:
        name: In any spelling; a name that the list does not hold has itself alone.
    """
    known = emotion_named(name)
    if known is None:
        return (normalised(name),)
    return (known, *SPELLINGS[known], *SYNONYMS.get(known, ()))


def chosen_emotion(label: str, emotions: Iterable[str]) -> str | None:
    """That of a task's emotions which a label names, as the task spells it; None if there is none.

    >>> chosen_emotion("Sad", ["joy", "sadness"])
    'sadness'
    """
    offered = list(emotions)
    if label in offered:
        return label
    wanted = emotion_named(label) or normalised(label)
    for emotion in offered:
        if (emotion_named(emotion) or normalised(emotion)) == wanted:
            return emotion
    return None


def suggested_emotion(label: str, emotions: Iterable[str]) -> str | None:
    """That of a task's emotions which an unknown label may have meant: a synonym, or a slip of the pen."""
    word = normalised(label)
    forms: dict[str, str] = {}
    for emotion in emotions:
        forms |= dict.fromkeys((normalised(emotion), *words_for(emotion)), emotion)
    near = difflib.get_close_matches(word, forms, n=1, cutoff=0.85)
    return forms[near[0]] if near else None
