"""What a judge is: questions in, raw answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class AskAgain(Exception):
    """A question that was not answered this time; it may be asked again.

    Args:
        reason: Why, in one line.
        seconds: How long the judge asks everyone to wait; None where it does not say.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn.

    Attributes:
        temperature: 0 takes the likeliest words.
        top_p: Draw from the likeliest tokens whose probabilities reach this sum; None leaves it to the judge.
        top_k: Draw from so many tokens; None leaves it to the judge.
        seed: Of the draw; a question's number is added to it. None gives the judge none.
        max_tokens: Longest answer.
    """

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int = 1024


@dataclass(frozen=True)
class Recording:
    """Speech that goes with a question.

    Attributes:
        title: What the question calls it, for example ``USER``.
        wav: A whole WAV file, mono, 16 kHz, 16 bits.
    """

    title: str
    wav: bytes


@dataclass(frozen=True)
class Question:
    """What a judge is asked.

    Attributes:
        text: The words.
        system: System message, if any.
        recordings: Heard before the words.
        sampling: How the answer is drawn.
        number: Of the same words asked several times, which one this is, from 0.
    """

    text: str
    system: str | None = None
    recordings: tuple[Recording, ...] = ()
    sampling: Sampling = Sampling()
    number: int = 0

    @property
    def seed(self) -> int | None:
        """Seed of this question's own draw."""
        return None if self.sampling.seed is None else self.sampling.seed + self.number


@dataclass(frozen=True)
class Answer:
    """What a judge said.

    Attributes:
        text: Its words as they came; "" where it refused without any.
        refused: Whether the judge's service declined, as its own fields tell; refusing words are not looked for.
        cut: Whether the longest length ended the answer.
        served: Model that the service says has answered, often with a version; None where it says none.
    """

    text: str
    refused: bool = False
    cut: bool = False
    served: str | None = None


@dataclass(frozen=True)
class Pace:
    """How a judge is asked.

    Attributes:
        at_once: Calls under way at the same time, each in a thread of its own.
        batch_size: Questions of a call.
        attempts: Calls until a question counts as not answered.
        first_wait: Seconds after a call that failed; each further wait is twice as long.
        longest_wait: Seconds; a judge that asks for more is left.
    """

    at_once: int = 1
    batch_size: int = 1
    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 120.0


class Judge(Protocol):
    """Answers questions.

    Attributes:
        model: Name of the model, as it stands beside figures.
        hears: Whether questions may have recordings.
        pace: How it is asked.
    """

    model: str
    hears: bool
    pace: Pace

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """What decides its answers beside the question, as JSON values; the sampling as far as it obeys it."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer a batch; called from several threads.

        Raises:
            AskAgain: If the batch may be asked again.
            InputError: If nothing will help but the user.
        """
