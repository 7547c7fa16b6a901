"""After the speech the language model should expect what it expects after the transcript."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.modules.language_model import IGNORE
from empathy_lightning.outputs import EmpatheticOutput


class ResponseDistillationLoss(nn.Module):
    """KL divergence from the frozen model after the transcript to the same model after the speech.

    BLSP-Emo's first stage (released training code). Logits are made at the response's
    positions only, one chunk at a time, and made again in the backward pass. The
    defaults are those of Hinton et al. 2015; BLSP-Emo's own are
    ``square_temperature: false`` and ``shifted: false``.

    Args:
        temperature: Softens both distributions, above 0 (BLSP-Emo: 2).
        square_temperature: Multiply by the temperature squared, so that the size of the gradient does not depend on it.
        shifted: Compare what is expected in the place of each response token. Otherwise the expectations after each
            one are compared, so that of the first token takes no part and that after the last one does.
        chunk_size: Positions whose logits live at a time.
    """

    needs = ("response",)

    def __init__(
        self,
        temperature: float = 2.0,
        square_temperature: bool = True,
        shifted: bool = True,
        chunk_size: int = 1024,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} must be above 0")
        self.temperature = temperature
        self.square_temperature = square_temperature
        self.shifted = shifted
        self.chunk_size = chunk_size

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the response tokens of the batch, zero if there are no responses.

        Raises:
            ValueError: If the model has neither language model nor emotion, or cuts responses off.
        """
        spoken = output.responses
        if spoken is None:
            if output.emotion is None:
                raise ValueError("this loss needs a model with a language_model, and utterances with responses")
            return output.emotion.embedding.float().sum() * 0.0
        with torch.no_grad():
            written = self._compared(*spoken.of_transcripts())
        heard = self._compared(spoken.hidden, spoken.labels)
        if len(heard) != len(written):
            raise ValueError("the model's max_length cuts responses off: speech and transcript cannot be compared")
        return _mean_divergence(self, spoken.logits, heard, written)

    def _compared(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Hidden states (tokens, D) at the positions that are compared, utterance after utterance."""
        response = labels != IGNORE
        if self.shifted:
            # The state before a token is the one that expects it.
            return hidden[:, :-1][response[:, 1:]]
        return hidden[response]


class InputDistillationLoss(nn.Module):
    """As :class:`ResponseDistillationLoss`, but at the speech itself: what is expected after each word piece.

    BLSP's ``input_kl``. It needs as many embeddings as the transcript has word pieces, as
    :class:`.modules.cformer.CFormer` gives in training; other utterances are left out. BLSP-Emo's own
    form is ``square_temperature: false``.

    Args:
        temperature: Softens both distributions, above 0 (BLSP-Emo: 2).
        square_temperature: Multiply by the temperature squared, so that the size of the gradient does not depend on it.
        chunk_size: Positions whose logits live at a time.
    """

    def __init__(self, temperature: float = 2.0, square_temperature: bool = True, chunk_size: int = 1024) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} must be above 0")
        self.temperature = temperature
        self.square_temperature = square_temperature
        self.chunk_size = chunk_size

    def forward(self, output: EmpatheticOutput, batch: SpeechBatch) -> Tensor:
        """Mean over the word pieces that are compared, zero if there are none."""
        spoken = output.responses
        if spoken is None or spoken.speech is None:
            return torch.zeros((), device=batch.waveform.device)
        with torch.no_grad():
            written, labels = spoken.of_transcripts()
        # Where the responses begin at the same position, the prompts before them have the same length.
        alike = _begin(labels) == _begin(spoken.labels)
        compared = spoken.speech & alike[:, None]
        heard = spoken.hidden[compared]
        width = min(written.shape[1], compared.shape[1])
        return _mean_divergence(self, spoken.logits, heard, written[:, :width][compared[:, :width]])


def _begin(labels: Tensor) -> Tensor:
    """Position of each response's first token, shape (B,)."""
    return (labels != IGNORE).int().argmax(1)


def _mean_divergence(
    loss: ResponseDistillationLoss | InputDistillationLoss,
    logits: Callable[[Tensor], Tensor],
    heard: Tensor,
    written: Tensor,
) -> Tensor:
    """Mean over positions of the divergence from what is expected after words to what is expected after speech.

    Args:
        loss: Says how softly, and how many positions at a time.
        logits: Of hidden states.
        heard: Hidden states after speech, shape (N, D).
        written: Those after words, shape (N, D).
    """

    def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            target = (logits(teacher).float() / loss.temperature).log_softmax(-1)
        expected = (logits(student).float() / loss.temperature).log_softmax(-1)
        return nn.functional.kl_div(expected, target, reduction="sum", log_target=True)

    total = heard.new_zeros((), dtype=torch.float32)
    for student, teacher in zip(heard.split(loss.chunk_size), written.split(loss.chunk_size), strict=True):
        total = total + checkpoint(_divergence, student, teacher, use_reentrant=False)
    scale = loss.temperature**2 if loss.square_temperature else 1.0
    return total / max(1, len(heard)) * scale
