"""What a run with ``out`` leaves: weights in that folder, the curve and the checkpoints in ``logs`` beside it."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from empathy_lightning.configurations import logs_of
from empathy_lightning.errors import InputError, meant
from empathy_lightning.tasks.task import TrainedPartsTask


def curve(out: str) -> CSVLogger:
    """The curve, ``metrics.csv``.

    Args:
        out: Folder of the run's weights.
    """
    logs = logs_of(Path(out))
    return CSVLogger(str(logs.parent), logs.name, version="")


class MonitorCheck(L.Callback):
    """Refuse a figure for the best weights that no validation has, before an epoch is trained for it.

    Args:
        monitor: Its name.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first figures."""
        self._check(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Where there was no sanity check."""
        if not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def _check(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        figures = {str(name) for name in trainer.callback_metrics if str(name).startswith("validation/")}
        # A metric that is no number yet is not logged.
        if isinstance(task, TrainedPartsTask):
            figures |= {f"validation/{name}" for name, _ in task.metrics["validation"].named_children()}
        if figures and self.monitor not in figures:
            raise InputError(
                f"monitor {self.monitor}: no validation has it{meant(self.monitor, figures)}; "
                f"there are {', '.join(sorted(figures))}"
            )


def checkpoints(out: str, monitor: str | None, save_every: int) -> list[L.Callback]:
    """Who saves ``best.ckpt`` and ``last.ckpt``.

    Args:
        out: Folder of the run's weights.
        monitor: Figure of the validation that is least for the best weights; None keeps only the last.
        save_every: Optimiser steps after which the last is saved, in the middle of an epoch too.
    """
    folder = str(logs_of(Path(out)))
    if monitor is None:
        validated = ModelCheckpoint(folder, save_last=True, save_top_k=0, enable_version_counter=False)
        checks: list[L.Callback] = []
    else:
        checks = [MonitorCheck(monitor)]
        validated = ModelCheckpoint(
            folder, "best", monitor=monitor, mode="min", save_last=True, enable_version_counter=False
        )
    by_steps = ModelCheckpoint(
        folder, every_n_train_steps=save_every, save_last=True, save_top_k=0, enable_version_counter=False
    )
    return [*checks, validated, by_steps]
