"""Stage 1, semantic alignment: the frozen model's own reply to the transcript is the target for the spoken form."""

from __future__ import annotations

from torch import Tensor

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.task import TrainedPartsTask


class SpeechAdapterTask(TrainedPartsTask):
    """Train the speech adapter with the response loss.

    Args:
        model: Encoder, adapter and language model.
        learning_rate: Peak rate (paper: 1e-3).
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps in which the rate rises.
    """

    def __init__(
        self, model: EmpatheticLM, learning_rate: float = 1e-3, weight_decay: float = 0.0, warmup: float = 0.03
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup)
        if model.speech_adapter is None:
            raise InputError("SpeechAdapterTask needs a model with a speech_adapter and a language_model")
        self.model = model

    def on_fit_start(self) -> None:
        """Refuse to train what is not used."""
        if self.model.speech_slot == "transcript":
            raise InputError("speech_slot: transcript leaves the adapter out: use `validate` or `test` with it")

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        loss = self.model(batch).response_loss
        if loss is None:
            raise InputError("no utterance has a response; make them with `empathy-lightning prepare responses`")
        self.log(
            f"{stage}/response_loss",
            loss,
            prog_bar=True,
            on_epoch=True,
            batch_size=len(batch),
            sync_dist=stage != "train",
        )
        return loss

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Response loss of a batch."""
        return self._step(batch, "train")

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Response loss of a batch."""
        self._step(batch, "validation")

    def test_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Response loss of a batch."""
        self._step(batch, "test")
