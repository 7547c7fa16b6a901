"""A trained module whose runs go on where they were stopped: checkpoints of what trains, and of what a step needs."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.tasks.finite import LossWatch, check_finite
from empathy_lightning.tasks.heads import HeadWatch
from empathy_lightning.tasks.resume import WholeCheckpoints, carry_best, go_on
from empathy_lightning.tasks.trained import trained_names


class ResumableModule(L.LightningModule):
    """Saves what trains alone, and goes on from a checkpoint of any moment as if it had not been stopped.

    It ends as such a run, to the last bit where its settings are the same.

    Attributes:
        watch: Notes losses that are no numbers; none is saved.
        heads: Notes which heads of an emotion nuance module learn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.watch = LossWatch()
        self.heads = HeadWatch()
        self._seed = 0
        self._sums: dict[str, Tensor] = {}
        self._restored: dict[str, float] = {}
        self._buffers_of_step: dict[str, Tensor] = {}
        self._sums_of_step: dict[str, Tensor] = {}
        # Frozen backbones are not in the checkpoint, so a resumed run must not ask for them.
        self.strict_loading = False

    def setup(self, stage: str) -> None:
        """Before a training: no epoch has begun, and checkpoints are to be written whole."""
        if stage == "fit":
            self._seed = torch.initial_seed()
            self._sums, self._restored = {}, {}
            # The trainer's own alone: another one was chosen.
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
        # Of all four together, so that no other batch, epoch or process draws the same.
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
        # The last batch of an epoch makes a step, however few were gathered.
        return bool(batches % self.trainer.accumulate_grad_batches) and batches < self.trainer.num_training_batches

    def log_figures(self, stage: str, figures: dict[str, Tensor], size: int) -> None:
        """Log figures of a batch; in training also for the epoch's mean, which goes on where a run is resumed."""
        self.log_dict(figures, prog_bar=stage == "train", batch_size=size, sync_dist=stage != "train")
        if stage != "train":
            return
        for name, value in figures.items():
            sums = torch.stack([value.detach().float() * size, value.new_tensor(size, dtype=torch.float)])
            before = self._sums.get(name)
            self._sums[name] = sums if before is None else before.to(sums.device) + sums

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch, and let the DataModule say what it could not read."""
        self.log_dict({f"{name}_epoch": total / count for name, (total, count) in self._sums.items()})
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, EmpathyDataModule):
            datamodule.report_unreadable()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out, refuse what is not finite, and keep what a resumed run needs to go on."""
        self.watch.check()
        check_finite((name, p) for name, p in self.named_parameters() if p.requires_grad)
        # No figures are left behind that are older than the checkpoint.
        for logger in self.loggers:
            logger.save()
        inside = self._inside_a_step()
        kept = trained_names(self)
        for state in ("state_dict", "current_model_state"):  # the second is the weights' beside their running mean
            if state in checkpoint:
                checkpoint[state] = {name: value for name, value in checkpoint[state].items() if name in kept}
        if inside:
            state = checkpoint.get("current_model_state", checkpoint["state_dict"])
            state.update({name: buffer for name, buffer in self._buffers_of_step.items() if name in state})
        sums = self._sums_of_step if inside else self._sums
        checkpoint["settings"] = self.settings()
        checkpoint["heads"] = self.heads.reached()
        checkpoint["seed"] = self._seed
        checkpoint["accumulated"] = self.trainer.accumulate_grad_batches
        checkpoint["sums"] = {name: pair.tolist() for name, pair in sums.items()}
        checkpoint["figures"] = {name: float(value) for name, value in self.trainer.callback_metrics.items()}

    def settings(self) -> dict[str, Any]:
        """What decides the training beside data, trainer and parts, by the names under which the YAML sets it."""
        return {}

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
        now = self.settings()
        then = checkpoint.get("settings", now)
        for name in {**then, **now}:
            if now.get(name) != then.get(name):
                raise InputError(
                    f"the checkpoint was trained with {name} {then.get(name)}, the configuration says "
                    f"{now.get(name)}: give --model.{name} as it was, or begin anew with --again"
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
        self.heads = HeadWatch(checkpoint.get("heads", ()))
        self._sums = {name: torch.tensor(sums) for name, sums in checkpoint.get("sums", {}).items()}
        self._restored = checkpoint.get("figures", {})
        if go_on(self.trainer, checkpoint) == 0:
            self._sums = {}
