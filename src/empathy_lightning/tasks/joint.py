"""One stage for all: adapter, partial LoRA and emotion heads together, as RE-LLM and BLSP-Emo's second stage."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torchmetrics import Metric

from empathy_lightning.errors import InputError
from empathy_lightning.metrics import emotion_metrics
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.schedule import Schedule
from empathy_lightning.tasks.task import TrainedPartsTask


class JointTask(TrainedPartsTask):
    """Train what hears the words and what hears the emotion together, with the response loss and auxiliary losses.

    Args:
        model: Its listener has a speech adapter and an emotion nuance module; there is a responder, perhaps with
            partial LoRA.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each auxiliary loss by name, and of ``response``; 1 where not given.
        initial_weights: Folders of earlier stages to start from.
        optimizer: Makes the optimiser of the trained parameters (RE-LLM: AdamW with a peak rate of 2e-5).
        schedule: Of the learning rate; None takes :class:`.schedule.Cosine`.
        trainable: Patterns of the names of the parameters to train; None takes all that were not loaded frozen.
        metrics: Of validation and test, by name; None takes :func:`empathy_lightning.metrics.emotion_metrics`.
    """

    trains = ("listener.speech_adapter", "listener.emotion_nuance")

    def __init__(
        self,
        model: EmpatheticLM,
        auxiliary_losses: dict[str, nn.Module],
        loss_weights: dict[str, float] | None = None,
        initial_weights: list[str] | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.05),
        schedule: Schedule | None = None,
        trainable: list[str] | None = None,
        metrics: dict[str, Metric] | None = None,
    ) -> None:
        nuance, responder = model.listener.emotion_nuance, model.responder
        if nuance is None or model.listener.speech_adapter is None or responder is None:
            raise InputError("JointTask needs a listener with a speech_adapter and an emotion_nuance, and a responder")
        metrics = emotion_metrics(nuance.num_emotions) if metrics is None else metrics
        super().__init__(model, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        self.train_only(trainable)
        self.refuse_untrained("listener.speech_adapter")

    def on_fit_start(self) -> None:
        """Refuse to train what is not used.

        Raises:
            InputError: If the adapter's embeddings stand in no prompt, or there is too little to train on.
        """
        assert self.model.responder is not None
        if not self.model.responder.speech_slot.uses_voice:
            raise InputError("this speech_slot leaves the adapter out: use `validate` or `test` with it")
        self.check_training_data("response")
