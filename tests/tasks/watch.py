"""A callback that a configuration may name: what one process held and heard."""

import json
import os
import signal
from pathlib import Path

import lightning as L
import torch


class Watch(L.Callback):
    """Write the losses of a process's batches and the shapes of its weights.

    Args:
        folder: Where each process writes its own file.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """The trainer has divided the loss by the batches of a step."""
        self.losses.append(float(outputs["loss"]) * trainer.accumulate_grad_batches)

    def on_fit_end(self, trainer, pl_module):
        """Whole shapes beside those that are here."""
        held = {
            name: (tuple(p.shape), tuple(p.to_local().shape if hasattr(p, "to_local") else p.shape))
            for name, p in pl_module.named_parameters()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save({"losses": self.losses, "held": held}, self.folder / f"{trainer.global_rank}.pt")


class Moments(L.Callback):
    """Save a checkpoint at every moment of a training, and write down which utterances were heard.

    Args:
        folder: For the checkpoints, and for ``heard.RANK.jsonl``; None only listens.
        heard: Folder of that file where it is another one.
    """

    def __init__(self, folder: str | None = None, heard: str | None = None) -> None:
        self.folder = folder
        self.heard = Path(str(heard or folder))
        self.count = 0

    def _save(self, trainer, moment):
        if self.folder is not None and not trainer.sanity_checking:
            trainer.save_checkpoint(Path(self.folder) / f"{self.count:03d}_{moment}.ckpt")
            self.count += 1

    def _write(self, trainer, kind, ids):
        self.heard.mkdir(parents=True, exist_ok=True)
        line = json.dumps([kind, trainer.current_epoch, ids])
        with (self.heard / f"heard.{trainer.global_rank}.jsonl").open("a") as file:
            file.write(f"{line}\n")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._write(trainer, "train", batch.ids)
        self._save(trainer, "batch")

    def on_validation_start(self, trainer, pl_module):
        self._save(trainer, "validation_begins")

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._save(trainer, "validation_batch")

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self._write(trainer, "validation", [])
        self._save(trainer, "validated")

    def on_train_epoch_end(self, trainer, pl_module):
        self._save(trainer, "epoch")

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch > 0:
            self._save(trainer, "next_epoch")

    def on_train_end(self, trainer, pl_module):
        self._save(trainer, "end")


class Killed(L.Callback):
    """Kill the process at a step, in the middle of writing its checkpoint.

    Args:
        step: Optimiser steps that were made then.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            torch.save = self._half

    def _half(self, checkpoint, path):
        Path(path).write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)


class Signalled(L.Callback):
    """Send the process a signal, once.

    Args:
        moment: Name of the hook.
        number: Of the signal.
    """

    def __init__(self, moment: str, number: int) -> None:
        self.moment, self.number = moment, number
        setattr(self, moment, self._send)

    def _send(self, trainer, *arguments):
        if self.number and (not trainer.sanity_checking or "sanity" in self.moment):
            number, self.number = self.number, 0
            os.kill(os.getpid(), number)
