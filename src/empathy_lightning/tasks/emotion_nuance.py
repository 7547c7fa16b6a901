"""Stage 2: hear the emotion, so that the frozen model replies as it does to the transcript with its label."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torchmetrics import Metric

from empathy_lightning.errors import InputError
from empathy_lightning.metrics import emotion_metrics
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.tasks.schedule import Schedule
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.trained import frozen


class EmotionNuanceTask(TrainedPartsTask):
    """Train the emotion nuance module with the response loss and auxiliary losses; the speech adapter stays frozen.

    Args:
        model: Its listener has an emotion nuance module; without a responder only the auxiliary losses train it.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each auxiliary loss by name, and of ``response``; 1 where not given.
        initial_weights: Folders of earlier stages to start from: the adapter, and perhaps a nuance module pretrained
            on recognition alone.
        optimizer: Makes the optimiser of the trained parameters (paper: AdamW with a peak rate of 2e-4).
        schedule: Of the learning rate; None takes :class:`.schedule.Cosine`.
        trainable: Patterns of the names of the parameters to train, for example ``["listener.emotion_nuance.*"]``;
            None takes all that were not loaded frozen, but not the adapter.
        metrics: Of validation and test, by name; None takes :func:`empathy_lightning.metrics.emotion_metrics`.
    """

    trains = ("listener.emotion_nuance",)

    def __init__(
        self,
        model: EmpatheticLM,
        auxiliary_losses: dict[str, nn.Module],
        loss_weights: dict[str, float] | None = None,
        initial_weights: list[str] | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-4, weight_decay=0.01),
        schedule: Schedule | None = None,
        trainable: list[str] | None = None,
        metrics: dict[str, Metric] | None = None,
    ) -> None:
        nuance, adapter = model.listener.emotion_nuance, model.listener.speech_adapter
        if nuance is None:
            raise InputError("EmotionNuanceTask needs a listener with an emotion_nuance module")
        if model.responder is None and not auxiliary_losses:
            raise InputError("without a responder the auxiliary losses are all there is to train: give some")
        metrics = emotion_metrics(nuance.num_emotions) if metrics is None else metrics
        super().__init__(model, optimizer, schedule, auxiliary_losses, loss_weights, metrics, initial_weights)
        if adapter is not None:
            freeze(adapter)
        self.train_only(trainable)
        if adapter is not None and not frozen(adapter):
            raise InputError("trainable: EmotionNuanceTask leaves the speech_adapter frozen: use JointTask to train it")
        self.refuse_untrained("listener.speech_adapter")

    def on_fit_start(self) -> None:
        """Refuse to train what is not used.

        Raises:
            InputError: If nothing reads the emotion and no loss learns from it, or there is too little to train on.
        """
        responder = self.model.responder
        if responder is None:
            self.check_training_data()
            return
        if not responder.emotion_slot.uses_voice and not self.auxiliary_losses:
            raise InputError("a label in the emotion slot leaves the auxiliary losses alone to train: give some")
        self.check_training_data("response")
