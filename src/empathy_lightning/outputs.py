"""What the model makes of a batch, for losses to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from empathy_lightning.listener import Heard
from empathy_lightning.modules.emotion_nuance import EmotionEstimate


@dataclass
class ResponseStates:
    """How the language model reads the expected responses, for losses that compare its expectations.

    Attributes:
        hidden: Last hidden states of prompts and responses, right-padded, shape (B, T, D).
        labels: Token ids of the responses at their own positions, shape (B, T), -100 elsewhere.
        logits: The language model's logits (N, V) of hidden states (N, D).
        of_transcripts: Gives hidden states and labels of the same responses after the transcripts.
    """

    hidden: Tensor
    labels: Tensor
    logits: Callable[[Tensor], Tensor]
    of_transcripts: Callable[[], tuple[Tensor, Tensor]]


@dataclass
class EmpatheticOutput:
    """What the model makes of a batch; auxiliary losses and metrics read it beside the batch.

    Attributes:
        response_loss: Mean cross-entropy of the expected responses, or None without a
            language model or without responses.
        emotion: Estimates of the emotion nuance module, or None without one.
        responses: Hidden states behind the response loss, or None where there is none.
        heard: What the listener made of the batch, the adapter's embeddings among it; None from a task that hears
            nothing.
    """

    response_loss: Tensor | None
    emotion: EmotionEstimate | None
    responses: ResponseStates | None = None
    heard: Heard | None = None
