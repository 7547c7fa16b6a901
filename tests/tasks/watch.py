"""A callback that a configuration may name: what one process held and heard."""

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
