"""What the trainers share: losses, metrics, optimiser, schedule, and which parts train."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from empathy_lightning.checkpoints import load_weights, save
from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.outputs import Output
from empathy_lightning.tasks.emotion_rows import EmotionRows
from empathy_lightning.tasks.one_pass import in_one_pass
from empathy_lightning.tasks.resumable import ResumableModule
from empathy_lightning.tasks.schedule import Cosine, Schedule
from empathy_lightning.tasks.settings import settings
from empathy_lightning.tasks.trained import frozen, in_training, part_of, train_matching
from empathy_lightning.tasks.training_data import check_training_data
from empathy_lightning.tasks.weighted_losses import EMOTION_LOSSES, check_weights, losses_of, weighted_sum, weighty


class TrainedPartsTask(ResumableModule):
    """Losses and metrics by name, one optimiser with a schedule per step; what does not train is not saved.

    A subclass says in its constructor what must be there and what is frozen.

    Args:
        model: Of which some parts train: a whole one, or a part alone.
        optimizer: Makes the optimiser of the parameters that train.
        schedule: Of its rate; None takes :class:`.schedule.Cosine`.
        auxiliary_losses: Modules with ``forward(output, batch)``, by name.
        loss_weights: Weight of each loss by name, the task's own among them; 1 where not given.
        metrics: Of validation and test, with ``update(output, batch)``, by name.
        initial_weights: Folders whose parts the model takes over.

    Raises:
        InputError: If a folder cannot be used, or a weight names no loss.
    """

    own_loss = "response"
    """Name of the loss that the output itself holds."""

    trains: tuple[str, ...] = ()
    """Parts that train unless ``trainable`` names others, perhaps among more."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerCallable,
        schedule: Schedule | None = None,
        auxiliary_losses: Mapping[str, nn.Module] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        initial_weights: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.optimizer = _Uncopied(optimizer)
        self.schedule = schedule or Cosine()
        self.auxiliary_losses = nn.ModuleDict(dict(auxiliary_losses or {}))
        self.loss_weights = check_weights(loss_weights, self.own_loss, self.auxiliary_losses.keys())
        self.metrics = nn.ModuleDict()
        for stage in ("validation", "test"):
            self.metrics[stage] = nn.ModuleDict({name: metric.clone() for name, metric in (metrics or {}).items()})
        self.initial_weights = list(initial_weights or [])
        self._filled: set[str] = set()
        for folder in self.initial_weights:
            self._filled.update(load_weights(folder, model))
        self._in_training: set[nn.Module] | None = None
        self._tested = EmotionRows()

    @property
    def learns_emotions(self) -> bool:
        """Whether a loss compares with the labels, so that a class without any cannot be learnt."""
        return any(isinstance(loss, EMOTION_LOSSES) for loss in self.auxiliary_losses.values())

    def train_only(self, patterns: Sequence[str] | None) -> None:
        """Train the parameters whose names match a pattern, and freeze all others.

        Args:
            patterns: As in file names, for example ``["listener.speech_adapter.*",
                "listener.emotion_nuance.*_head.*"]``; None leaves everything as it is.

        Raises:
            InputError: If a pattern matches no parameter, or an encoder would stay as it was made.
        """
        if patterns is None:
            return
        parts = ("listener.speech_encoder", "listener.emotion_encoder")
        # One that comes frozen brought its weights with it.
        made_here = [part for part in parts if not self._is_frozen(part)]
        parameters = {name.removeprefix("model."): p for name, p in self.named_parameters()}
        train_matching(parameters, patterns)
        encoder = [p for name, p in parameters.items() if part_of(name) == "listener.speech_encoder"]
        if any(p.requires_grad for p in encoder) and isinstance(
            self.model.listener.speech_encoder, CachedSpeechEncoder
        ):
            raise InputError("trainable: a CachedSpeechEncoder cannot train; give its encoder as speech_encoder")
        self.refuse_untrained(*made_here)
        self._in_training = in_training(self)
        self.train()

    def _is_frozen(self, part: str) -> bool:
        half, _, name = part.partition(".")
        module = getattr(getattr(self.model, half, None), name, None)
        return module is None or frozen(module)

    def untrained_parts(self) -> list[str]:
        """Names of the parts that this task trains and that hold nothing trained so far.

        A backbone has the weights with which it was loaded, and ``initial_weights`` those of an earlier stage; what a
        loss trains of its own is no part.
        """
        names: list[str] = []
        for name, parameter in self.model.named_parameters():
            part = part_of(name)
            if not parameter.requires_grad or part in names or part in self._filled:
                continue
            if getattr(self.model.get_submodule(part), "source", None) is None:
                names.append(part)
        return names

    def refuse_untrained(self, *parts: str) -> None:
        """Refuse parts that would stay frozen as they were made.

        Args:
            parts: Such as ``listener.speech_adapter``; those that are not there are passed over.

        Raises:
            InputError: If a part neither trains nor comes from an earlier stage.
        """
        for part in parts:
            half, _, name = part.partition(".")
            there = getattr(getattr(self.model, half), name) is not None
            if there and part not in self._filled and self._is_frozen(part):
                raise InputError(f"{name} would be frozen untrained: give the folder of its stage as initial_weights")

    def train(self, mode: bool = True) -> Self:
        """Frozen parts stay in eval mode, and trained ones leave it, also inside a part that was loaded frozen."""
        super().train(mode)
        if self._in_training is not None:
            for module in self.modules():
                module.training = mode and module in self._in_training
        return self

    def configure_optimizers(self) -> Any:
        """Optimiser over the trained parameters, and a schedule per step."""
        optimizer = in_one_pass(self._new_optimizer())
        steps = max(1.0, float(self.trainer.estimated_stepping_batches))
        if math.isinf(steps):
            warnings.warn(
                "the number of optimiser steps is unknown, so the learning rate stays up after its rise; give "
                "trainer.max_steps or trainer.max_epochs for the whole schedule",
                stacklevel=2,
            )
        rate = partial(_factor_at, schedule=self.schedule, steps=steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return self.optimizer([p for p in self.parameters() if p.requires_grad])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note which heads learn."""
        self.heads.note(getattr(getattr(self.model, "listener", None), "emotion_nuance", None))

    def untouched(self) -> Tensor:
        """Zero, connected to every trained parameter: what a batch leaves out gets a gradient all the same.

        Distributed processes must agree on what to exchange, whatever their batches hold.
        """
        # Of one element each, so that no memory is spent on whole sums.
        ones = [p.flatten()[:1].float().sum() * 0.0 for p in self.parameters() if p.requires_grad]
        return torch.stack(ones).sum() if ones else torch.zeros((), device=self.device)

    def output(self, batch: SpeechBatch) -> Output:
        """What losses and metrics read."""
        found: Output = self.model(batch)
        return found

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        """Loss of a batch of ``train``, ``validation`` or ``test``; logs what belongs to it."""
        output = self.output(batch)
        losses = losses_of(output, batch, self.auxiliary_losses)
        total = weighted_sum(losses, self.loss_weights) + self.untouched()
        figures = {f"{stage}/{name}_loss": loss for name, loss in losses.items()}
        if stage == "train":
            self.watch.note(figures, self.global_step)
        else:
            for metric in self._metrics(stage).values():
                metric.update(output, batch)
        if stage == "test" and self.metrics[stage]:
            self._tested.note(output, batch)
        self.log_figures(stage, figures | {f"{stage}/loss": total}, len(batch))
        return total

    def _metrics(self, stage: str) -> dict[str, Metric]:
        return {name: cast(Metric, metric) for name, metric in cast(nn.ModuleDict, self.metrics[stage]).items()}

    def _log_metrics(self, stage: str) -> None:
        for name, metric in self._metrics(stage).items():
            # Every process computes; whether there was something to measure is the same for all after that.
            value = metric.compute()
            if value.isfinite():
                self.log(f"{stage}/{name}", value, prog_bar=True, sync_dist=True)
            metric.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over the whole split."""
        self._log_metrics("validation")

    def on_test_epoch_end(self) -> None:
        """Log the metrics over the whole split, and say them of each corpus and language where there are several."""
        self._log_metrics("test")
        table, figures = self._tested.gathered()
        self.log_dict({f"test/{name}": value for name, value in figures.items()}, sync_dist=True)
        if table and self.trainer.is_global_zero:
            print(f"\n{table}", flush=True)

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises:
            InputError: If a loss is NaN or infinite; on a GPU looked up only where the figures are logged, which waits
                for it anyway, and before a checkpoint is saved.
        """
        loss = self._step(batch, "train")
        self.watch.note({"train/loss": loss}, self.global_step)
        trainer: Any = self._trainer
        if loss.device.type == "cpu" or (batch_idx + 1) % trainer.log_every_n_steps == 0:
            self.watch.check()
        return loss

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "validation")

    def test_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "test")

    def check_training_data(self, *fields: str) -> None:
        """Refuse to train on too little of what the losses learn from, see :mod:`.training_data`.

        Args:
            *fields: Of an utterance, in all of which the task's own loss reads; none where it weighs nothing.

        Raises:
            InputError: If there is too little.
        """
        own = fields if self.loss_weights.get(self.own_loss, 1.0) > 0 else ()
        check_training_data(self.trainer, own, weighty(self.auxiliary_losses, self.loss_weights))

    def export(self, folder: str) -> None:
        """Write what was trained to a folder.

        Args:
            folder: Made if it does not exist.
        """
        save(folder, self.model)

    def settings(self) -> dict[str, Any]:
        """What decides the training beside data, trainer and parts."""
        return settings(self._new_optimizer(), self.schedule, self.loss_weights)


class _Uncopied:
    """What makes the optimiser, the same one in a copy of the task that averages its weights: it cannot be copied.

    Args:
        make: From parameters to an optimiser.
    """

    def __init__(self, make: OptimizerCallable) -> None:
        self.make = make

    def __call__(self, parameters: Any) -> torch.optim.Optimizer:
        return self.make(parameters)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Uncopied:
        return self


def _factor_at(step: int, schedule: Schedule, steps: float) -> float:
    return schedule.factor(step, steps)
