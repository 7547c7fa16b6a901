"""A reply, with what was heard before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from empathy_lightning.filled_prompt import Turn
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.utterance import RATINGS


@dataclass(frozen=True)
class Timings:
    """How long a reply took.

    Attributes:
        first_text: Seconds from the question to the first word; None without one.
        first_audio: Seconds from the question to the first sound, when it was there to be taken; None without one.
        real_time_factor: Seconds of work per second of sound: below 1, speech is made faster than it is heard. None
            without sound; in a batch, of all its replies together.
    """

    first_text: float | None = None
    first_audio: float | None = None
    real_time_factor: float | None = None


@dataclass
class Reply:
    """What was heard and what is answered.

    Attributes:
        text: The reply.
        emotion: Likeliest category, or None if the checkpoint's classifier was never trained.
        probabilities: Of each category, by name; empty without a trained classifier.
        arousal: In 0..1, or None if the checkpoint does not rate.
        valence: As arousal.
        dominance: As arousal.
        units: Speech units of the reply, or None without a speech decoder.
        waveform: The reply as speech, shape (T,), or None without a speech decoder and vocoder.
        sample_rate: Of the waveform, in Hz; None without one.
        cut: Whether the reply was cut at the most tokens that it may have.
        speech_cut: Whether its speech was cut at the most units that it may have (``units_per_token``).
        interrupted: Whether it was cancelled before its end.
        fault: What ended its speech, or its text too, before the end, in one line; None where nothing did.
        turn: The question and this reply, for the history of the next question; of one that was interrupted, the
            words that were spoken.
        timings: How long it took.
        estimate: What was heard in the voice, in a batch of one; None without an emotion nuance module.
    """

    text: str
    emotion: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    units: list[int] | None = None
    waveform: Tensor | None = None
    sample_rate: int | None = None
    cut: bool = False
    speech_cut: bool = False
    interrupted: bool = False
    fault: str | None = None
    turn: Turn = field(default_factory=lambda: Turn(""), repr=False)
    timings: Timings = Timings()
    estimate: EmotionEstimate | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """What was heard and what is answered, in lines for a terminal."""
        heard = []
        if self.emotion is not None:
            heard.append(f"{self.emotion} ({self.probabilities[self.emotion]:.0%})")
        for name in RATINGS:
            value = getattr(self, name)
            if value is not None:
                heard.append(f"{name} {value:.2f}")
        return f"  heard    {', '.join(heard) or 'an emotion without a name'}\n  reply    {self.text}"


@dataclass
class RecognisedEmotion:
    """What was heard in a voice, without a reply.

    Attributes:
        emotion: Likeliest category, or None if the classifier was never trained.
        probabilities: Of each category, by name; empty without a trained classifier.
        arousal: In 0..1, or None if the checkpoint does not rate.
        valence: As arousal.
        dominance: As arousal.
        estimate: As tensors, in a batch of one.
    """

    emotion: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    arousal: float | None = None
    valence: float | None = None
    dominance: float | None = None
    estimate: EmotionEstimate | None = field(default=None, repr=False)


def hear_emotion(
    reply: Reply | RecognisedEmotion, estimate: EmotionEstimate, row: int, emotions: Sequence[str]
) -> None:
    """Put into a reply what was heard in the voice.

    Args:
        reply: Is changed.
        estimate: Of a batch.
        row: Of the utterance in it.
        emotions: Names of the categories.
    """
    shares = estimate.logits[row].float().softmax(-1)
    # A classifier that no loss has reached says NaN.
    if emotions and not bool(shares.isnan().any()):
        reply.emotion = emotions[int(shares.argmax())]
        for name, share in zip(emotions, shares.tolist(), strict=True):
            reply.probabilities[name] = round(share, 4)
    for name in RATINGS:
        value = getattr(estimate, name)[row]
        if not bool(value.isnan()):
            # RE-LLM's linear heads leave the scale of ratings.
            setattr(reply, name, float(value.clamp(0, 1)))
    alone = {name: value[row : row + 1] for name, value in vars(estimate).items() if value is not None}
    reply.estimate = EmotionEstimate(**alone)
