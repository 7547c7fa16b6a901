"""SIGTERM and SIGINT end a training with a checkpoint from which it goes on exactly."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint


class StopOnSignal(L.Callback):
    """After the optimiser step under way, save ``last.ckpt`` and end with 128 + the signal's number as exit code.

    Only there is a checkpoint exact: no gradients are half gathered, no validation is half done. A signal during a
    validation is obeyed after the next step, or after the last validation, where no step comes. A second signal ends
    at once and saves nothing, and so does one where nothing is to be saved: before the first step, while the trained
    folder is written, in ``validate`` and ``test``. A signal that the process ignores (SIGINT in a shell's background)
    stays ignored, and SLURM's jobs keep Lightning's own handlers.

    It has to be the last of the trainer's callbacks, so that all others have seen the step.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._steps = 0
        self._launcher: Any = None

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing is trained yet."""
        self._take(trainer, self._end)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A measurement saves nothing."""
        if trainer.state.fn == "validate":
            self._take(trainer, self._end)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A measurement saves nothing."""
        self._take(trainer, self._end)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on there is something to save."""
        self._steps = trainer.global_step
        self._take(trainer, self._receive)

    def _take(self, trainer: Any, handler: Callable[[int, Any], None]) -> None:
        """Take the place of the handlers that Lightning has set up before."""
        if SLURMEnvironment.detect() or threading.current_thread() is not threading.main_thread():
            return
        self._launcher = trainer.strategy.launcher
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handler)
        if trainer.received_sigterm:
            self._end(signal.SIGTERM, None)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            self._end(number, frame)
        self.received = number

    def _end(self, number: int, frame: Any) -> None:
        if self._launcher is not None:
            # The processes that this one has started.
            self._launcher.kill(number)
        raise SystemExit(128 + number)

    def on_train_batch_end(
        self, trainer: Any, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end, if a signal came in and an optimiser step was just made."""
        if trainer.global_step != self._steps:
            self._steps = trainer.global_step
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Save and end, if a signal came in during the last validation."""
        self._stop_if_asked(trainer)
        self._take(trainer, self._end)

    def _stop_if_asked(self, trainer: Any) -> None:
        stop = self.received is not None
        if trainer.world_size > 1:
            # The signal may have reached one process only, and a checkpoint takes all of them.
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if not stop:
            return
        number = self.received or signal.SIGTERM
        saved = "nothing saved, this was a dry run"
        if not trainer.fast_dev_run:
            path = last_checkpoint(trainer)
            trainer.save_checkpoint(path)
            saved = f"saved {path}: go on with --ckpt_path last"
        if trainer.is_global_zero:
            print(f"{signal.Signals(number).name} after step {self._steps}: {saved}", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)


def last_checkpoint(trainer: L.Trainer) -> Path:
    """Where the run's latest state belongs, whether or not it is there yet."""
    return checkpoint_folders(trainer)[0] / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}.ckpt"


def checkpoint_folders(trainer: L.Trainer) -> list[Path]:
    """Folders of the trainer's checkpoints; where a callback names none, the one that Lightning will take."""
    logger = trainer.logger
    beside = getattr(logger, "log_dir", None) or trainer.default_root_dir
    folders = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            folders.append(Path(callback.dirpath or Path(beside) / "checkpoints"))
    return folders or [Path(beside)]
