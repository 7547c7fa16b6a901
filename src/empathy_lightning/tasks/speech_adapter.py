"""Stage 1, semantic alignment: the frozen model's own reply to the transcript is the target for the spoken form.

Before it, the adapter may learn to hear the words alone: where the response weighs nothing and every other loss reads
only what was heard (``hears_only``), the language model does not run.
"""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.tasks.schedule import Schedule
from empathy_lightning.tasks.task import TrainedPartsTask


class SpeechAdapterTask(TrainedPartsTask):
    """Train the speech adapter with the response loss.

    Args:
        model: A listener with encoder and adapter, and a responder.
        optimizer: Makes the optimiser of the trained parameters (paper: AdamW with a peak rate of 1e-3).
        schedule: Of the learning rate; None takes :class:`.schedule.Cosine`.
        trainable: Patterns of the names of the parameters to train; None takes all that were not loaded frozen.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each auxiliary loss by name, and of ``response``; 1 where not given.
        metrics: Of validation and test, see :mod:`empathy_lightning.metrics`, by name.
        initial_weights: Folders of earlier runs to start from, such as one whose adapter has learnt to hear the words.
    """

    trains = ("listener.speech_adapter",)

    def __init__(
        self,
        model: EmpatheticLM,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0),
        schedule: Schedule | None = None,
        trainable: list[str] | None = None,
        auxiliary_losses: dict[str, nn.Module] | None = None,
        loss_weights: dict[str, float] | None = None,
        metrics: dict[str, Metric] | None = None,
        initial_weights: list[str] | None = None,
    ) -> None:
        super().__init__(model, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        if model.listener.speech_adapter is None or model.responder is None:
            raise InputError("SpeechAdapterTask needs a listener with a speech_adapter, and a responder")
        self.train_only(trainable)

    @property
    def hears_only(self) -> bool:
        """Whether no loss and no metric reads what the language model makes of the batch."""
        if self.loss_weights.get(self.own_loss, 1.0):
            return False
        reading = [*self.auxiliary_losses.values(), *self._metrics("validation").values()]
        return all(getattr(one, "hears_only", False) for one in reading)

    def output(self, batch: SpeechBatch) -> EmpatheticOutput:
        """What losses and metrics read."""
        found: EmpatheticOutput = self.model.hear(batch) if self.hears_only else self.model(batch)
        return found

    def on_fit_start(self) -> None:
        """Refuse to train what is not used.

        Raises:
            InputError: If the adapter's embeddings stand in no prompt, or there is too little to train on.
        """
        assert self.model.responder is not None
        if not self.model.responder.speech_slot.uses_voice:
            raise InputError("this speech_slot leaves the adapter out: use `validate` or `test` with it")
        self.check_training_data("response")
