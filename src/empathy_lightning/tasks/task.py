"""What the three trainers share: optimiser, schedule, and checkpoints of the trained parts only."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Self

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from empathy_lightning.batch import SpeechBatch
from empathy_lightning.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.tasks.finite import LossWatch, check_finite
from empathy_lightning.tasks.resume import WholeCheckpoints, carry_best, go_on
from empathy_lightning.tasks.schedule import ScheduleName, factor, warmup_steps


class TrainedPartsTask(L.LightningModule):
    """AdamW with a schedule per optimiser step over the parameters that train; nothing else is saved.

    A run that goes on from a checkpoint, saved at any moment, ends as one that was not stopped, to the last bit where
    its settings are the same.

    Args:
        learning_rate: Peak rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the optimiser steps in which the rate rises (paper: 0.03), or, from 1 on, their number.
        schedule: ``cosine`` (FreezeEmpath) or ``warmup_decay`` (BLSP-Emo, RE-LLM), see :mod:`.schedule`.
    """

    model: EmpatheticLM

    def __init__(
        self, learning_rate: float, weight_decay: float, warmup: float, schedule: ScheduleName = "cosine"
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.schedule: ScheduleName = schedule
        self._in_training: set[nn.Module] | None = None
        self._watch = LossWatch()
        self._filled: set[str] = set()
        self.initial_weights: list[str] = []
        self._seed = 0
        self._sums: dict[str, Tensor] = {}
        self._restored: dict[str, float] = {}
        self._buffers_of_step: dict[str, Tensor] = {}
        self._sums_of_step: dict[str, Tensor] = {}
        # Frozen backbones are not in the checkpoint, so a resumed run must not ask for them.
        self.strict_loading = False

    def train_only(self, patterns: Sequence[str] | None) -> None:
        """Train the parameters whose names match a pattern, and freeze all others.

        Args:
            patterns: As in file names, for example ``["listener.speech_adapter.*",
                "listener.emotion_nuance.*_head.*"]``; None leaves everything as it is.

        Raises:
            InputError: If a pattern matches no parameter.
        """
        if patterns is None:
            return
        parameters = {name.removeprefix("model."): p for name, p in self.named_parameters()}
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in parameters):
                parts = ", ".join(sorted({f"{_part(name)}.*" for name in parameters}))
                raise InputError(f"trainable: no parameter has a name like {pattern!r}; there are {parts}")
        for name, parameter in parameters.items():
            parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))
            if parameter.requires_grad and _part(name) == "listener.speech_encoder" and self._remembers():
                raise InputError("trainable: a CachedSpeechEncoder cannot train; give its encoder as speech_encoder")
        self._in_training = _in_training(self)
        self.train()

    def untrained_parts(self) -> list[str]:
        """Names of the parts that this task trains and that hold nothing trained so far.

        A backbone has the weights with which it was loaded, and ``initial_weights`` those of an earlier stage; what a
        loss trains of its own is no part.
        """
        names: list[str] = []
        for name, parameter in self.model.named_parameters():
            part = _part(name)
            if not parameter.requires_grad or part in names or part in self._filled:
                continue
            if getattr(self.model.get_submodule(part), "source", None) is None:
                names.append(part)
        return names

    def _remembers(self) -> bool:
        return isinstance(self.model.listener.speech_encoder, CachedSpeechEncoder)

    def train(self, mode: bool = True) -> Self:
        """Frozen parts stay in eval mode, and trained ones leave it, also inside a part that was loaded frozen."""
        super().train(mode)
        if self._in_training is not None:
            for module in self.modules():
                module.training = mode and module in self._in_training
        return self

    def configure_optimizers(self) -> Any:
        """Optimiser over the trained parameters, and a schedule per step."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = max(1.0, float(self.trainer.estimated_stepping_batches))
        if math.isinf(steps):
            rising = warmup_steps(steps, self.warmup)
            warnings.warn(
                f"the number of optimiser steps is unknown, so the learning rate rises over {rising} optimiser steps "
                "and then stays; give trainer.max_steps or trainer.max_epochs for the whole schedule",
                stacklevel=2,
            )
        rate = partial(_factor_at, schedule=self.schedule, steps=steps, warmup=self.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def untouched(self) -> Tensor:
        """Zero, connected to every trained parameter: what a batch leaves out gets a gradient all the same.

        Distributed processes must agree on what to exchange, whatever their batches hold.
        """
        # Of one element each, so that no memory is spent on whole sums.
        ones = [p.flatten()[:1].float().sum() * 0.0 for p in self.parameters() if p.requires_grad]
        return torch.stack(ones).sum() if ones else torch.zeros((), device=self.device)

    def _step(self, batch: SpeechBatch, stage: str) -> Tensor:
        """Loss of a batch of ``train``, ``validation`` or ``test``; logs what belongs to it."""
        raise NotImplementedError

    def training_step(self, batch: SpeechBatch, batch_idx: int) -> Tensor:
        """Loss of a batch.

        Raises:
            InputError: If a loss is NaN or infinite; on a GPU looked up only where the figures are logged, which waits
                for it anyway, and before a checkpoint is saved.
        """
        loss = self._step(batch, "train")
        self._watch.note({"train/loss": loss}, self.global_step)
        trainer: Any = self._trainer
        if loss.device.type == "cpu" or (batch_idx + 1) % trainer.log_every_n_steps == 0:
            self._watch.check()
        return loss

    def validation_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "validation")

    def test_step(self, batch: SpeechBatch, batch_idx: int) -> None:
        """Losses and metrics of a batch."""
        self._step(batch, "test")

    def watched(self, losses: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        """The losses of a batch by the names under which they are logged; those of training must stay finite."""
        named = {f"{stage}/{name}_loss": loss for name, loss in losses.items()}
        if stage == "train":
            self._watch.note(named, self.global_step)
        return named

    def setup(self, stage: str) -> None:
        """Before a training: no epoch has begun, and checkpoints are to be written whole."""
        if stage == "fit":
            self._seed = torch.initial_seed()
            self._sums, self._restored = {}, {}
            if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
                self.trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_train_start(self) -> None:
        """Take up the figures that an interrupted run had logged."""
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._restored.items()})
        self._remember_step()

    def on_train_epoch_start(self) -> None:
        """No figures yet: not called where an epoch goes on."""
        self._sums = {}

    def on_train_batch_start(self, batch: SpeechBatch, batch_idx: int) -> None:
        """What a step draws (dropout) follows from seed, epoch, batch and process, not from what was drawn before."""
        key = (self._seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
        if self.trainer.accumulate_grad_batches > 1 and batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._remember_step()

    def _remember_step(self) -> None:
        """What forward passes change, as it is where an optimiser step begins: a resumed run makes that step again."""
        kept = trained_names(self)
        self._buffers_of_step = {name: buffer.clone() for name, buffer in self.named_buffers() if name in kept}
        self._sums_of_step = dict(self._sums)

    def _inside_a_step(self) -> bool:
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        batches = progress.processed
        return bool(batches % self.trainer.accumulate_grad_batches) and batches < self.trainer.num_training_batches

    def log_with_mean(self, stage: str, figures: dict[str, Tensor], size: int) -> None:
        """Log figures of a batch; in training each step's and the epoch's mean, which goes on where a run is resumed.

        Args:
            stage: ``train``, ``validation`` or ``test``.
            figures: By name.
            size: Utterances that they are means of.
        """
        if stage != "train":
            self.log_dict(figures, prog_bar=True, on_epoch=True, batch_size=size, sync_dist=True)
            return
        self.log_dict({f"{name}_step": value for name, value in figures.items()}, prog_bar=True, batch_size=size)
        for name, value in figures.items():
            sums = torch.stack([value.detach().float() * size, value.new_tensor(size, dtype=torch.float)])
            before = self._sums.get(name)
            self._sums[name] = sums if before is None else before.to(sums.device) + sums

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch, and let the DataModule say what it could not read."""
        means = {f"{name}_epoch": total / count for name, (total, count) in self._sums.items()}
        self.log_dict(means, prog_bar=True)
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, EmpathyDataModule):
            datamodule.report_unreadable()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out, refuse what is not finite, and keep what a resumed run needs to go on."""
        self._watch.check()
        check_finite((name, p) for name, p in self.named_parameters() if p.requires_grad)
        # No figures are left behind that are older than the checkpoint.
        for logger in self.loggers:
            logger.save()
        inside, kept = self._inside_a_step(), trained_names(self)
        for state in ("state_dict", "current_model_state"):  # the second is the weights' beside their running mean
            if state in checkpoint:
                checkpoint[state] = {name: value for name, value in checkpoint[state].items() if name in kept}
        if inside:
            state = checkpoint.get("current_model_state", checkpoint["state_dict"])
            state.update({name: buffer for name, buffer in self._buffers_of_step.items() if name in state})
        sums = self._sums_of_step if inside else self._sums
        checkpoint["settings"] = self._settings()
        checkpoint["seed"] = self._seed
        checkpoint["accumulated"] = self.trainer.accumulate_grad_batches
        checkpoint["sums"] = {name: pair.tolist() for name, pair in sums.items()}
        checkpoint["figures"] = {name: float(value) for name, value in self.trainer.callback_metrics.items()}

    def _settings(self) -> dict[str, Any]:
        """What decides the training beside data, trainer and parts."""
        names = ("learning_rate", "weight_decay", "warmup", "schedule", "loss_weights")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def _refuse_other(self, checkpoint: dict[str, Any]) -> None:
        kept = self.state_dict().keys() & trained_names(self)
        missing = sorted(kept - checkpoint["state_dict"].keys())
        if missing:
            raise InputError(
                f"the checkpoint has no weights for {missing[0]}: it is of another stage or of other parts; "
                "give one of this configuration"
            )
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        now = self._settings()
        for name, then in checkpoint.get("settings", now).items():
            if now.get(name) != then:
                raise InputError(
                    f"the checkpoint was trained with {name} {then}, the configuration says {now.get(name)}: give "
                    f"--model.{name} as it was, or begin anew with --again true"
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved.

        Raises:
            InputError: If it lacks weights that this task trains, or was trained with other settings.
        """
        self._refuse_other(checkpoint)
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        if "current_model_state" in checkpoint:  # Lightning's callback wants all names in both
            whole = self.state_dict()
            for state in ("state_dict", "current_model_state"):
                checkpoint[state] = {**whole, **checkpoint[state]}
        carry_best(self.trainer, checkpoint)
        self._seed = checkpoint.get("seed", self._seed)
        self._sums = {name: torch.tensor(sums) for name, sums in checkpoint.get("sums", {}).items()}
        self._restored = checkpoint.get("figures", {})
        if go_on(self.trainer, checkpoint) == 0:
            self._sums = {}


def _part(name: str) -> str:
    """The part that a parameter belongs to, such as ``listener.speech_adapter``."""
    return ".".join(name.split(".")[:2])


def _factor_at(step: int, schedule: ScheduleName, steps: float, warmup: float) -> float:
    return factor(schedule, step, steps, warmup)


def _in_training(root: nn.Module) -> set[nn.Module]:
    """Modules that belong in train mode: all their parameters train, or they have none (dropout) and stand beside."""
    whole = {m for m in root.modules() if (own := list(m.parameters())) and all(p.requires_grad for p in own)}
    chosen = {root}.union(*(module.modules() for module in whole))
    for module in root.modules():
        children = set(module.children())
        if children & whole or any(p.requires_grad for p in module.parameters(recurse=False)):
            chosen.update(child for child in children if not any(True for _ in child.parameters()))
    return chosen


def trained_names(module: nn.Module) -> set[str]:
    """Names of the parameters that train and of the buffers beside them.

    A buffer counts as trained if a parameter of the same submodule trains (batch norm's statistics).
    """
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    homes = {name.rpartition(".")[0] for name in names}
    return names | {name for name, _ in module.named_buffers() if name.rpartition(".")[0] in homes}
