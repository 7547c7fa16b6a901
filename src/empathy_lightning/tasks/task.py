"""What the three trainers share: optimiser, schedule, and checkpoints of the trained parts only."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import nn

from empathy_lightning.datamodule import EmpathyDataModule


class TrainedPartsTask(L.LightningModule):
    """AdamW with linear warm-up and cosine decay over the parameters that train; nothing else is saved.

    Args:
        learning_rate: Peak rate.
        weight_decay: AdamW's weight decay.
        warmup: Share of the steps in which the rate rises (paper: 0.03).
    """

    def __init__(self, learning_rate: float, weight_decay: float, warmup: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        # Frozen backbones are not in the checkpoint, so a resumed run must not ask for them.
        self.strict_loading = False

    def configure_optimizers(self) -> Any:
        """Optimiser over the trained parameters, and a schedule per step."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(self.warmup * steps))

        def _rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_end(self) -> None:
        """Let the DataModule say what it could not read."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if isinstance(datamodule, EmpathyDataModule):
            datamodule.report_unreadable()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave frozen weights out."""
        kept = trained_names(self)
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}


def trained_names(module: nn.Module) -> set[str]:
    """Names of the parameters that train and of the buffers beside them.

    A buffer counts as trained if a parameter of the same submodule trains (batch norm's statistics).
    """
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    homes = {name.rpartition(".")[0] for name in names}
    return names | {name for name, _ in module.named_buffers() if name.rpartition(".")[0] in homes}
