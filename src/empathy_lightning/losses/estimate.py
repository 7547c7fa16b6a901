"""What the losses over emotions read from the model's output."""

from __future__ import annotations

from empathy_lightning.modules.emotion_nuance import EmotionEstimate
from empathy_lightning.outputs import EmpatheticOutput


def estimate_of(output: EmpatheticOutput) -> EmotionEstimate:
    """The emotion estimate.

    Raises:
        ValueError: If the model has no emotion nuance module.
    """
    if output.emotion is None:
        raise ValueError("this loss needs a model with an emotion_nuance module")
    return output.emotion
