"""The record that travels from the corpora to everything else.

An :class:`Utterance` is one labelled speech segment. It says where the audio
lies and what is known about it; it never holds samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

EMOTIONS: tuple[str, ...] = ("neutral", "happy", "sad", "angry", "surprised")
"""The five categories of FreezeEmpath, in the order used unless a task is given another."""

RATINGS: tuple[str, ...] = ("arousal", "valence", "dominance")
"""The rated dimensions. They are fields with these names everywhere, never positions in a triple."""

QUANTIZER = "reply_quantizer"
"""Raw label that tells of which quantizer the units are, as ``prepare units`` writes it."""

SPOKEN: tuple[str, ...] = ("reply_engine", "reply_version", "reply_voice", "reply_style", "reply_seed", QUANTIZER)
"""Raw labels that tell how the speech of a reply (``response_path``) was made, as ``prepare speech`` writes them."""

# What a manifest's line leaves out besides None.
_DEFAULTS: tuple[tuple[str, object], ...] = (
    ("start", 0.0),
    ("emotion_start", 0.0),
    ("response_cut", False),
    ("references", []),
)


@dataclass(slots=True)
class Utterance:
    """One labelled speech segment.

    Attributes:
        id: Unique within its corpus.
        corpus: Name of the corpus, for example ``"ravdess"``.
        path: Audio file.
        start: First second of the segment inside the file.
        end: Last second of the segment, or None for the end of the file.
        duration: Length of the segment in seconds, where known.
        transcript: The words said.
        language: BCP 47 tag such as ``"en"``.
        speaker: Speaker id; the unit that must not leak between splits.
        session: Recording session, where the corpus has one.
        split: ``"train"``, ``"validation"`` or ``"test"``, where the corpus states one.
        emotion: Category, spelt as in the task's list of emotions.
        arousal: Rating in 0..1 (calm to excited), or None.
        valence: Rating in 0..1 (negative to positive), or None.
        dominance: Rating in 0..1 (weak to strong), or None.
        emotion_id: Another utterance, as ``corpus/id``, whose voice gives the emotion in the place of this one's.
        emotion_path: Audio file of that utterance; emotion and ratings are then that voice's.
        emotion_start: First second of it inside its file.
        emotion_end: Last second of it, or None for the end of its file.
        prompt: What the language model is asked about this utterance, with the slots ``{speech}`` and, if need be,
            ``{emotion}``; None for the model's own prompt.
        system: System message of that prompt; None leaves it out.
        response: The expected reply to this utterance.
        response_cut: Whether the reply was cut at the longest length, so that it has no end to be learnt.
        response_path: The reply as speech, where it was rendered or recorded.
        units: The spoken reply as discrete units.
        raw_labels: The corpus's own labels, as written there.
        emotion_votes: Share of the raters who heard each category, summing to 1; empty where unknown.
        suite: Name of the evaluation suite that the utterance is a question of.
        ability: What it tries, in the suite's own word, for example ``"empathy/anger"``.
        references: Answers or replies that the suite holds for right, the best one first.
    """

    id: str
    corpus: str
    path: str
    start: float = 0.0
    end: float | None = None
    duration: float | None = None
    transcript: str | None = None
    language: str | None = None
    speaker: str | None = None
    session: str | None = None
    split: str | None = None
    emotion: str | None = None
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    emotion_id: str | None = None
    emotion_path: str | None = None
    emotion_start: float = 0.0
    emotion_end: float | None = None
    prompt: str | None = None
    system: str | None = None
    response: str | None = None
    response_cut: bool = False
    response_path: str | None = None
    units: list[int] | None = None
    raw_labels: dict[str, str] = field(default_factory=dict)
    emotion_votes: dict[str, float] = field(default_factory=dict)
    suite: str | None = None
    ability: str | None = None
    references: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, ready for JSON; what they hold is the record's own, no copy."""
        values: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and value != {} and (name, value) not in _DEFAULTS:
                values[name] = value
        return values


def vote_shares(votes: Sequence[str]) -> dict[str, float]:
    """Share of each category among votes; empty without any.

    >>> vote_shares(["sad", "neutral", "sad", "sad"])
    {'sad': 0.75, 'neutral': 0.25}
    """
    return {name: round(count / len(votes), 6) for name, count in Counter(votes).items()}


def scale_rating(value: float, low: float, high: float) -> float:
    """Map a rating from a corpus's scale to 0..1.

    Args:
        value: The rating as the corpus states it.
        low: Lowest point of the corpus's scale, for example 1.
        high: Highest point, for example 5 (IEMOCAP) or 7 (MSP-Podcast).

    Raises:
        ValueError: If the value lies outside the scale.
    """
    if not low <= value <= high:
        raise ValueError(f"rating {value} lies outside its scale {low}..{high}")
    return (value - low) / (high - low)
