"""What a run with ``out`` leaves: weights in that folder, the curve and the checkpoints in ``logs`` beside it."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from empathy_lightning.configurations import logs_of


def curve(out: str) -> CSVLogger:
    """The curve, ``metrics.csv``.

    Args:
        out: Folder of the run's weights.
    """
    logs = logs_of(Path(out))
    return CSVLogger(str(logs.parent), logs.name, version="")


def checkpoints(out: str, monitor: str | None, save_every: int) -> list[ModelCheckpoint]:
    """Who saves ``best.ckpt`` and ``last.ckpt``.

    Args:
        out: Folder of the run's weights.
        monitor: Figure of the validation that is least for the best weights; None keeps only the last.
        save_every: Optimiser steps after which the last is saved, in the middle of an epoch too.
    """
    folder = str(logs_of(Path(out)))
    if monitor is None:
        validated = ModelCheckpoint(folder, save_last=True, save_top_k=0, enable_version_counter=False)
    else:
        validated = ModelCheckpoint(
            folder, "best", monitor=monitor, mode="min", save_last=True, enable_version_counter=False
        )
    by_steps = ModelCheckpoint(
        folder, every_n_train_steps=save_every, save_last=True, save_top_k=0, enable_version_counter=False
    )
    return [validated, by_steps]
