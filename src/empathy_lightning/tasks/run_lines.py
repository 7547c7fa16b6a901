"""What a run says: its parts at the start, and lines now and then where no terminal shows a bar."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from torch import nn


class PartsSummary(L.Callback):
    """Before training, one line for each part: its class, its parameters, and how many of them train; and the batch."""

    def on_fit_start(self, trainer: Any, pl_module: L.LightningModule) -> None:
        """Print on the first process."""
        if not trainer.is_global_zero:
            return
        lines = part_lines(pl_module)
        size, batches = getattr(trainer.datamodule, "batch_size", None), trainer.accumulate_grad_batches
        if size is not None:
            step = f"{size * trainer.world_size * batches}: {size} x {trainer.world_size} processes x {batches} batches"
            lines.append(f"utterances a step         at most {step}")
        print("\n".join(lines), flush=True)


def part_lines(module: nn.Module) -> list[str]:
    """A line for each part of a task's model and each other part of the task that has parameters."""
    parts: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        within: dict[str, nn.Module] = {}
        if name == "model":
            for room, whole in child.named_children():
                within |= {f"{room}.{own}": part for own, part in whole.named_children()}
        parts |= within or {name: child}
    lines = []
    for name, part in parts.items():
        total = sum(parameter.numel() for parameter in part.parameters())
        trained = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        if not total:
            continue
        state = f"{_count(trained)} of them train"
        if trained in (0, total):
            state = "trains" if trained else "frozen"
        lines.append(f"{name:<25} {type(part).__name__:<24}{_count(total):>10} parameters, {state}")
    return lines


class ProgressLines(ProgressBar):
    """A line every half minute and at the end of each epoch.

    Args:
        seconds: Least time between two lines inside an epoch.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        super().__init__()
        self.seconds = seconds
        self._enabled = True
        self._begin = self._said = time.monotonic()
        self._first_step = 0

    def disable(self) -> None:
        """Say nothing, as on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Say something again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock begins."""
        self._begin = self._said = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line, if the last one was long ago."""
        if self._due():
            self._say(self._training(trainer, trainer.current_epoch), trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A line with the epoch's figures."""
        self._say(f"{self._training(trainer, trainer.current_epoch)}, epoch done", trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """A line, if the last one was long ago."""
        # After the task, what it gave and the batch comes the number of the batch.
        if self._due() and not trainer.sanity_checking:
            self._say(f"validation, batch {arguments[3] + 1} of {_total(trainer.num_val_batches)}", None)

    def on_test_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """A line, if the last one was long ago."""
        if self._due():
            self._say(f"test, batch {arguments[3] + 1} of {_total(trainer.num_test_batches)}", None)

    def _due(self) -> bool:
        return time.monotonic() - self._said >= self.seconds

    def _training(self, trainer: L.Trainer, epoch: int) -> str:
        """Where the training is, how long it took and how long it will take at this pace."""
        step, steps = trainer.global_step, trainer.estimated_stepping_batches
        seconds = time.monotonic() - self._begin
        epochs = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        known = steps != float("inf")
        last = f" of {steps:.0f}" if known else ""
        line = f"epoch {epoch + 1}{epochs}, step {step}{last}, {_clock(seconds)} gone"
        if known and step > self._first_step:
            left = max(0.0, seconds * (steps - step) / (step - self._first_step))
            line += f", {_clock(left)} left"
        return line

    def _say(self, line: str, trainer: L.Trainer | None) -> None:
        self._said = time.monotonic()
        if not self._enabled:
            return
        metrics = {} if trainer is None else trainer.progress_bar_metrics
        figures = "".join(f", {name} {value:.4g}" for name, value in metrics.items())
        print(f"{line}{figures}", flush=True)


def _total(batches: Any) -> str:
    total = sum(batches) if isinstance(batches, list) else batches
    return "unknown" if total == float("inf") else str(int(total))


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters:,}"
