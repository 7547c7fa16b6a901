"""What the model makes of a batch, for losses to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.listener import Heard
from empathy_lightning.modules.emotion_heads import EmotionEstimate

if TYPE_CHECKING:
    from empathy_lightning.modules.empathy_classifier import EmpathyEstimate


@dataclass
class ResponseStates:
    """How the language model reads the expected responses, for losses that compare its expectations.

    Attributes:
        hidden: Last hidden states of prompts and responses, right-padded, shape (B, T, D).
        labels: Token ids of the responses at their own positions, shape (B, T), -100 elsewhere.
        logits: The language model's logits (N, V) of hidden states (N, D).
        of_transcripts: Gives hidden states and labels of the same responses after the transcripts; read once.
        speech: Where the speech stands in the prompts, shape (B, T), bool; None where it is not known.
    """

    hidden: Tensor
    labels: Tensor
    logits: Callable[[Tensor], Tensor]
    of_transcripts: Callable[[], tuple[Tensor, Tensor]]
    speech: Tensor | None = None


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

    @property
    def losses(self) -> dict[str, Tensor]:
        """The model's own loss by its name, if there is one."""
        return {} if self.response_loss is None else {"response": self.response_loss}


@dataclass
class SpokenOutput:
    """What the speech decoder makes of the replies in a batch; auxiliary losses and metrics read it beside the batch.

    Utterances without a reply or without its units are left out; where none has both, the lists are empty.

    Attributes:
        unit_loss: Mean cross-entropy of the units, 0 where there are none.
        states: Hidden states that predicted the tokens of each reply, each (T_i, D).
        tokens: Token ids of each reply, each (T_i,).
        units: Units of each reply's speech, each (U_i,).
    """

    unit_loss: Tensor
    states: list[Tensor]
    tokens: list[Tensor]
    units: list[Tensor]

    @property
    def losses(self) -> dict[str, Tensor]:
        """The task's own loss by its name."""
        return {"unit": self.unit_loss}


@dataclass
class VocoderOutput:
    """Stretches of recordings, and the same as a vocoder says them from their units; losses and metrics read both.

    Attributes:
        mel_loss: Distance of the two in log mel bands, a scalar in nepers.
        spoken: What the vocoder says, shape (B, T).
        recorded: The recordings, shape (B, T).
        units: What it is said from, shape (B, U).
    """

    mel_loss: Tensor
    spoken: Tensor
    recorded: Tensor
    units: Tensor

    @property
    def losses(self) -> dict[str, Tensor]:
        """The task's own loss by its name."""
        return {"mel": self.mel_loss}


@dataclass
class EmpathyOutput:
    """What an empathy classifier finds in the replies of a batch, and what there is to find.

    Attributes:
        level_loss: Mean cross-entropy of the levels.
        estimate: Logits of levels and rationales.
        levels: 0, 1 or 2, shape (B,).
        rationales: Which tokens of the replies are part of the reason, bool, shape (B, T).
        mask: Shape (B, T), True where a reply has a token.
    """

    level_loss: Tensor
    estimate: EmpathyEstimate
    levels: Tensor
    rationales: Tensor
    mask: Tensor

    @property
    def losses(self) -> dict[str, Tensor]:
        """The task's own loss by its name."""
        return {"level": self.level_loss}


Output = EmpatheticOutput | SpokenOutput | VocoderOutput | EmpathyOutput
"""What the tasks' models make of a batch."""


def estimate_of(output: EmpatheticOutput) -> EmotionEstimate:
    """The emotion estimate, for losses and metrics that read it.

    Raises:
        InputError: If the model has no emotion nuance module.
    """
    if output.emotion is None:
        raise InputError("a loss or metric over emotions needs a listener with an emotion_nuance module")
    return output.emotion
