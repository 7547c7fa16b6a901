"""Stage 2: hear the emotion, so that the frozen model replies as it does to the transcript with its label."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torchmetrics import Metric

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.checkpoints import load_weights
from empathy_lightning.errors import InputError
from empathy_lightning.losses.categorical import CategoricalLoss, FocalLoss, SoftLabelLoss
from empathy_lightning.metrics import Concordance, EmotionConfusion, unweighted_accuracy, weighted_accuracy
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.tasks.schedule import ScheduleName
from empathy_lightning.tasks.task import TrainedPartsTask
from empathy_lightning.tasks.training_data import check_training_data
from empathy_lightning.tasks.weighted_losses import check_weights, losses_of, weighted_sum, weighty
from empathy_lightning.utterance import RATINGS

EMOTION_LOSSES = (CategoricalLoss, FocalLoss, SoftLabelLoss)
"""Losses that compare with the labels, so that a class without any cannot be learnt."""


class EmotionNuanceTask(TrainedPartsTask):
    """Train the emotion nuance module with the response loss and auxiliary losses.

    Args:
        model: Its listener has an emotion nuance module; without a responder only the auxiliary losses train it.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each auxiliary loss by name, and of ``response``; 1 where not given.
        initial_weights: Folders of earlier stages to start from: the adapter, which stays frozen here, and perhaps
            a nuance module pretrained on recognition alone.
        learning_rate: Peak rate (paper: 2e-4).
        weight_decay: AdamW's weight decay.
        warmup: Share of the optimiser steps in which the rate rises, or, from 1 on, their number.
        schedule: ``cosine`` (FreezeEmpath) or ``warmup_decay`` (BLSP-Emo, RE-LLM).
        trainable: Patterns of the names of the parameters to train, for example ``["listener.emotion_nuance.*"]``;
            None takes all that were not loaded frozen, but not the adapter.
    """

    def __init__(
        self,
        model: EmpatheticLM,
        auxiliary_losses: dict[str, nn.Module],
        loss_weights: dict[str, float] | None = None,
        initial_weights: list[str] | None = None,
        learning_rate: float = 2e-4,
        weight_decay: float = 0.01,
        warmup: float = 0.03,
        schedule: ScheduleName = "cosine",
        trainable: list[str] | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, warmup, schedule)
        listener = model.listener
        if listener.emotion_nuance is None:
            raise InputError("EmotionNuanceTask needs a listener with an emotion_nuance module")
        if model.responder is None and not auxiliary_losses:
            raise InputError("without a responder the auxiliary losses are all there is to train: give some")
        self.model = model
        self.auxiliary_losses = nn.ModuleDict(auxiliary_losses)
        self.loss_weights = check_weights(loss_weights, list(auxiliary_losses))
        self.initial_weights = list(initial_weights or [])
        filled = self._filled = {part for folder in self.initial_weights for part in load_weights(folder, model)}
        if listener.speech_adapter is not None and trainable is None:
            freeze(listener.speech_adapter)
        self.train_only(trainable)
        given = listener.speech_adapter is None or "listener.speech_adapter" in filled
        if not given and _frozen(listener.speech_adapter):
            raise InputError("the speech adapter would be frozen untrained: give stage 1's folder as initial_weights")
        classes = listener.emotion_nuance.num_emotions
        self.confusion = nn.ModuleDict({stage: EmotionConfusion(classes) for stage in ("validation", "test")})
        self.concordance = nn.ModuleDict(
            {f"{stage}_{name}": Concordance() for stage in ("validation", "test") for name in RATINGS}
        )

    @property
    def learns_emotions(self) -> bool:
        """Whether a loss compares with the labels, so that a class without any cannot be learnt."""
        return any(isinstance(loss, EMOTION_LOSSES) for loss in self.auxiliary_losses.values())

    def on_fit_start(self) -> None:
        """Refuse to train what is not used."""
        responder = self.model.responder
        if responder is not None and not responder.emotion_slot.uses_voice and not self.auxiliary_losses:
            raise InputError("a label in the emotion slot leaves the auxiliary losses alone to train: give some")
        answers = responder is not None and self.loss_weights.get("response", 1.0)
        losses = weighty(self.auxiliary_losses, self.loss_weights)
        check_training_data(self.trainer, ["response"] if answers else [], losses)

    def _confusion(self, stage: str) -> Metric:
        return cast(Metric, self.confusion[stage])

    def _concordance(self, stage: str, name: str) -> Metric:
        return cast(Metric, self.concordance[f"{stage}_{name}"])

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        output = self.model(batch)
        losses = losses_of(output, batch, self.auxiliary_losses)
        total = weighted_sum(losses, self.loss_weights) + self.untouched()
        logged = self.watched(losses, stage) | {f"{stage}/loss": total}
        self.log_dict(logged, prog_bar=stage == "train", batch_size=len(batch), sync_dist=stage != "train")
        if stage != "train":
            self._confusion(stage).update(output.emotion.logits, batch.emotion)
            for name in RATINGS:
                self._concordance(stage, name).update(getattr(output.emotion, name), getattr(batch, name))
        return total

    def _epoch_end(self, stage: str) -> None:
        confusion = self._confusion(stage)
        counts = confusion.compute()
        if counts.sum() > 0:
            self.log(f"{stage}/unweighted_accuracy", unweighted_accuracy(counts), prog_bar=True, sync_dist=True)
            self.log(f"{stage}/weighted_accuracy", weighted_accuracy(counts), sync_dist=True)
        confusion.reset()
        for name in RATINGS:
            metric = self._concordance(stage, name)
            # Every process computes; whether there are ratings is the same for all after that.
            if (value := metric.compute()).isfinite():
                self.log(f"{stage}/concordance_{name}", value, sync_dist=True)
            metric.reset()

    def on_validation_epoch_end(self) -> None:
        """Unweighted and weighted accuracy, and concordance over the pooled split."""
        self._epoch_end("validation")

    def on_test_epoch_end(self) -> None:
        """Unweighted and weighted accuracy, and concordance over the pooled split."""
        self._epoch_end("test")


def _frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())
