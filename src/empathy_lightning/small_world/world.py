"""The small world of the demo: what is said there, how it is said and how one answers.

Sentences are composed from parts and their words carry no emotion; only the
rendering does. Every combination of object, person and place belongs to one
split for good, so that neither a backbone nor a module ever meets a held-out
combination before the test. All of it is synthetic and named so.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from empathy_lightning.small_world.espeak import Prosody
from empathy_lightning.utterance import EMOTIONS

ACTIVITIES: dict[str, str] = {
    "fence": "painted", "plants": "watered", "soup": "cooked", "letter": "read", "car": "washed",
    "lamp": "fixed", "boxes": "packed", "tickets": "bought", "window": "opened", "table": "moved",
    "film": "watched", "piano": "played", "bread": "baked", "floor": "cleaned", "ladder": "carried",
    "photos": "sorted", "clock": "repaired", "map": "studied", "basket": "filled", "chairs": "counted",
}  # fmt: skip
PEOPLE: tuple[str, ...] = (
    "sister", "brother", "mother", "father", "neighbour", "teacher",
    "cousin", "uncle", "aunt", "friend", "doctor", "manager",
)  # fmt: skip
PLACES: tuple[str, ...] = (
    "garden", "school", "station", "library", "market", "kitchen",
    "office", "village", "harbour", "museum", "park", "hotel",
)  # fmt: skip
TIMES: tuple[str, ...] = ("", "today", "yesterday", "this morning", "last night", "on Monday")
PATTERNS: tuple[str, ...] = (
    "I {verb} the {object} with my {person} at the {place}{time}.",
    "My {person} and I {verb} the {object} at the {place}{time}.",
)

EMOTION_WORDS: dict[str, str] = {
    "neutral": "calm", "happy": "happy", "sad": "sad", "angry": "angry", "surprised": "surprised",
}  # fmt: skip
"""The word by which a reply names the emotion that it heard."""

REACTIONS: dict[str, tuple[str, ...]] = {
    "neutral": ("You sound calm, thank you.", "I hear a calm voice, go on."),
    "happy": ("You sound so happy, how lovely!", "I hear how happy you are!"),
    "sad": ("You sound sad, I am sorry.", "I hear how sad you are."),
    "angry": ("You sound angry, I understand.", "I hear how angry you are."),
    "surprised": ("You sound surprised, no wonder!", "I hear how surprised you are!"),
}
QUESTIONS: dict[str | None, str] = {
    None: "Tell me more about the {object} and your {person} at the {place}.",
    "neutral": "How was the {object} with your {person} at the {place}?",
    "happy": "Did your {person} like the {object} at the {place}?",
    "sad": "Could your {person} help with the {object} at the {place}?",
    "angry": "What did your {person} do about the {object} at the {place}?",
    "surprised": "Did your {person} know about the {object} at the {place}?",
}

MEAN_STYLES: dict[str, Prosody] = {
    "neutral": Prosody(162, 45, 36, 76),
    "happy": Prosody(216, 70, 92, 112),
    "sad": Prosody(126, 26, 10, 36),
    "angry": Prosody(192, 24, 40, 192),
    "surprised": Prosody(145, 92, 98, 155),
}
"""The centre of each emotion's rendering; :func:`draw_prosody` varies around it."""

STYLE_SPREAD = Prosody(14, 6, 9, 12)
"""Standard deviations around the centres (for the volume: per cent of it); neighbours overlap."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the small world and the content words in it."""

    object: str
    person: str
    place: str
    time: str = ""
    pattern: int = 0

    @property
    def text(self) -> str:
        """The sentence as it is written and said."""
        time = f" {self.time}" if self.time else ""
        verb = ACTIVITIES[self.object]
        return PATTERNS[self.pattern].format(
            verb=verb, object=self.object, person=self.person, place=self.place, time=time
        )

    @property
    def split(self) -> str:
        """The split that owns this combination of content words: 20 % test, 10 % validation."""
        key = f"{self.object} {self.person} {self.place}".encode()
        # By a hash, so that it depends on nothing else, and Python's own is another one in each process.
        draw = int.from_bytes(hashlib.sha256(key).digest()[:4], "big") % 10
        if draw < 2:
            return "test"
        return "validation" if draw == 2 else "train"

    @property
    def content_words(self) -> tuple[str, str, str]:
        """The words that a reply has to get right."""
        return (self.object, self.person, self.place)


def sentences(split: str) -> Iterator[Sentence]:
    """All sentences of a split, in a fixed order."""
    for parts in product(ACTIVITIES, PEOPLE, PLACES, TIMES, range(len(PATTERNS))):
        sentence = Sentence(*parts)
        if sentence.split == split:
            yield sentence


def sentence_of(text: str) -> Sentence | None:
    """Find the content words in a text, for scoring; None unless each kind is named exactly once."""
    words = {word.strip(".,!?").lower() for word in text.split()}
    found = [words & set(kind) for kind in (ACTIVITIES, PEOPLE, PLACES)]
    if any(len(kind) != 1 for kind in found):
        return None
    thing, person, place = (kind.pop() for kind in found)
    return Sentence(thing, person, place)


def reply(sentence: Sentence, emotion: str | None, generator: random.Random) -> str:
    """A reply as the dialogues for the language model hold it: reaction, then question."""
    parts = {"object": sentence.object, "person": sentence.person, "place": sentence.place}
    question = QUESTIONS[emotion].format(**parts)
    return question if emotion is None else f"{generator.choice(REACTIONS[emotion])} {question}"


def draw_prosody(emotion: str, generator: random.Random) -> Prosody:
    """Draw a rendering of an emotion around its centre."""
    centre, spread = MEAN_STYLES[emotion], STYLE_SPREAD
    return replace(
        centre,
        rate=min(max(generator.gauss(centre.rate, spread.rate), 85), 300),
        pitch=min(max(generator.gauss(centre.pitch, spread.pitch), 0), 99),
        pitch_range=min(max(generator.gauss(centre.pitch_range, spread.pitch_range), 0), 99),
        volume=min(max(centre.volume * generator.gauss(1, spread.volume / 100), 20), 200),
    )


def ratings(prosody: Prosody) -> dict[str, float]:
    """Arousal, valence and dominance in 0..1, derived from how a sentence was rendered.

    Fast, high, lively and loud raise arousal; lively and high against loud raises
    valence; loud and low raises dominance. A stand-in for listeners' ratings.
    """
    rate, pitch = (prosody.rate - 165) / 40, (prosody.pitch - 50) / 25
    pitch_range, volume = (prosody.pitch_range - 55) / 30, (prosody.volume - 95) / 40
    scores = {
        "arousal": 0.5 + 0.10 * (rate + pitch + pitch_range + volume),
        "valence": 0.5 + 0.12 * (pitch_range + 0.8 * pitch + 0.4 * rate - 1.2 * volume),
        "dominance": 0.5 + 0.10 * (1.2 * volume - pitch + 0.4 * rate),
    }
    return {name: min(max(score, 0.0), 1.0) for name, score in scores.items()}


def nearest_emotion(prosody: Prosody) -> str:
    """The emotion whose rendering distribution makes this prosody most likely; bounds what a listener can reach."""

    def _distance(emotion: str) -> float:
        centre, spread = MEAN_STYLES[emotion], STYLE_SPREAD
        volume = (prosody.volume / centre.volume - 1) / (spread.volume / 100)
        return (
            ((prosody.rate - centre.rate) / spread.rate) ** 2
            + ((prosody.pitch - centre.pitch) / spread.pitch) ** 2
            + ((prosody.pitch_range - centre.pitch_range) / spread.pitch_range) ** 2
            + volume**2
        )

    return min(EMOTIONS, key=_distance)
