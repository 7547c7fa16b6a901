"""Stage 1, semantic alignment: the frozen model's own reply to the transcript is the target for the spoken form."""

from __future__ import annotations

from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.schedule import ScheduleName
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.training_data import check_training_data
from empathy_lightning.tasks.weighted_losses import check_weights, losses_of, weighted_sum, weighty


class SpeechAdapterTask(TrainedPartsTask):
    """Train the speech adapter with the response loss.

    Args:
        model: A listener with encoder and adapter, and a responder.
        learning_rate: Peak rate (paper: 1e-3).
        weight_decay: AdamW's weight decay.
        warmup: Share of the optimiser steps in which the rate rises, or, from 1 on, their number.
        schedule: ``cosine`` (FreezeEmpath) or ``warmup_decay`` (BLSP-Emo).
        trainable: Patterns of the names of the parameters to train; None takes all that were not loaded frozen.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each auxiliary loss by name, and of ``response``; 1 where not given.
    """

    def __init__(
        self,
        model: EmpatheticLM,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup: float = 0.03,
        schedule: ScheduleName = "cosine",
        trainable: list[str] | None = None,
        auxiliary_losses: dict[str, nn.Module] | None = None,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup, schedule)
        if model.listener.speech_adapter is None or model.responder is None:
            raise InputError("SpeechAdapterTask needs a listener with a speech_adapter, and a responder")
        self.model = model
        self.auxiliary_losses = nn.ModuleDict(auxiliary_losses or {})
        self.loss_weights = check_weights(loss_weights, list(self.auxiliary_losses))
        self.train_only(trainable)

    def on_fit_start(self) -> None:
        """Refuse to train what is not used."""
        assert self.model.responder is not None
        if not self.model.responder.speech_slot.uses_voice:
            raise InputError("this speech_slot leaves the adapter out: use `validate` or `test` with it")
        losses = weighty(self.auxiliary_losses, self.loss_weights)
        check_training_data(self.trainer, ["response"] if self.loss_weights.get("response", 1.0) else [], losses)

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        output = self.model(batch)
        losses = losses_of(output, batch, self.auxiliary_losses)
        total = weighted_sum(losses, self.loss_weights) + self.untouched()
        logged = self.watched(losses, stage)
        if self.auxiliary_losses:
            logged[f"{stage}/loss"] = total
        self.log_with_mean(stage, logged, len(batch))
        return total
