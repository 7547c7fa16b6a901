"""After the speech the language model should expect what it expects after the transcript."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from empathy_lightning.batch import SpeechBatch
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
        """Mean over the response tokens of the batch, zero if there are no responses."""
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
        total = heard.new_zeros((), dtype=torch.float32)
        divergence = partial(self._divergence, spoken.logits)
        for student, teacher in zip(heard.split(self.chunk_size), written.split(self.chunk_size), strict=True):
            total = total + checkpoint(divergence, student, teacher, use_reentrant=False)
        return total / max(1, len(heard)) * (self.temperature**2 if self.square_temperature else 1.0)

    def _compared(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Hidden states (tokens, D) at the positions that are compared, utterance after utterance."""
        response = labels != IGNORE
        return hidden[:, :-1][response[:, 1:]] if self.shifted else hidden[response]

    def _divergence(self, logits: Callable[[Tensor], Tensor], student: Tensor, teacher: Tensor) -> Tensor:
        with torch.no_grad():
            target = (logits(teacher).float() / self.temperature).log_softmax(-1)
        expected = (logits(student).float() / self.temperature).log_softmax(-1)
        return nn.functional.kl_div(expected, target, reduction="sum", log_target=True)
