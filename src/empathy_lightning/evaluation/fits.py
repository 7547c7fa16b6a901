"""How well a reply fits a question, for the measure same_words: by the replies that suit it, or by what it names.

A fit is an object that is called with a reply and a question; one of a user's own is named by its class path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from empathy_lightning.evaluation.parsing import parse_words
from empathy_lightning.metrics.text import chrf
from empathy_lightning.utterance import Utterance


class Fit(Protocol):
    """Says how well a reply fits each of some questions that have the same words.

    Attributes:
        name: What it goes by, for the figures.
        needs: Fields of a question without which it can say nothing.
    """

    name: str
    needs: tuple[str, ...]

    def __call__(self, reply: str, questions: Sequence[Utterance]) -> list[float]:
        """Fits, higher where the reply fits better.

        Args:
            reply: What was said to one of them.
            questions: Of other feelings each.
        """


class LikeReferences:
    """Likeness (chrF) to the reply that suits the question, the nearest of them where there are several."""

    name = "likeness to the references"
    needs: tuple[str, ...] = ("references",)

    def __call__(self, reply: str, questions: Sequence[Utterance]) -> list[float]:
        """In 0..1."""
        fits = []
        for question in questions:
            fits.append(max(chrf([reply], [reference]) for reference in question.references))
        return fits


class NamesEmotion:
    """1 where the reply names the question's emotion and no other one of those asked, by whole words and synonyms."""

    name = "emotion named"
    needs: tuple[str, ...] = ("emotion",)

    def __call__(self, reply: str, questions: Sequence[Utterance]) -> list[float]:
        """0 or 1."""
        emotions = [question.emotion or "" for question in questions]
        named = parse_words(reply, list(dict.fromkeys(emotions)))
        return [float(emotion == named) for emotion in emotions]
