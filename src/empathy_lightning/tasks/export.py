"""Write the trained parts to a folder when training ends."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.tensor import DTensor

from empathy_lightning.checkpoints import Checkpoint, check_savable, emotion_names, save
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder


class Export(L.Callback):
    """At the end of ``fit``, take the best weights and write the checkpoint folder.

    Beside it lies ``training.json``: the logged figures per epoch, the time that training
    took, and whether the frozen weights are byte-identical to those before it.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self._frozen, self._begin = "", 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Refuse what could not be written in the end, and remember what must not change."""
        check_folder(Path(self.folder))
        if isinstance(trainer.strategy, FSDPStrategy):
            raise InputError(
                "Export cannot gather what FSDPStrategy shards: use empathy_lightning.tasks.ShardedBackboneStrategy"
            )
        check_savable(self._checkpoint(trainer, pl_module))
        self._begin = time.time()
        self._frozen = self._digest(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The history goes on where a run is resumed."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an interrupted run's history."""
        self.history = state_dict["history"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch's figures for the curves, once all of them are there."""
        if trainer.sanity_checking:
            return
        figures = {k: round(float(v), 6) for k, v in trainer.callback_metrics.items() if "/" in k}
        self.history.append({"step": trainer.global_step, **figures})

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the folder, on the first process only; the others give their shards of what is frozen."""
        digest = self._digest(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
            pl_module.load_state_dict(state, strict=False)
        save(self.folder, self._checkpoint(trainer, pl_module))
        facts = {
            "seconds": round(time.time() - self._begin, 1),
            "frozen_sha256": digest,
            "frozen_unchanged": digest == self._frozen,
            "history": self.history,
        }
        (Path(self.folder) / ".training.json").write_text(json.dumps(facts, indent=1) + "\n")
        (Path(self.folder) / ".training.json").replace(Path(self.folder) / "training.json")

    def _checkpoint(self, trainer: L.Trainer, pl_module: Any) -> Checkpoint:
        decoder, vocoder = getattr(pl_module, "speech_decoder", None), getattr(pl_module, "vocoder", None)
        return Checkpoint(pl_module.model, self._emotions(trainer, pl_module), decoder, vocoder)

    def _digest(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        """On the first process alone, or on all where each holds a part."""
        sharded = any(isinstance(p, DTensor) for p in pl_module.parameters())
        return frozen_digest(pl_module) if sharded or trainer.is_global_zero else ""

    def _emotions(self, trainer: Any, pl_module: Any) -> list[str]:
        """Names of the classifier's categories, checked before a long run rather than after it."""
        emotions = list(getattr(trainer.datamodule, "emotions", []))
        nuance = pl_module.model.emotion_nuance
        return emotions if nuance is None else emotion_names(emotions, nuance.num_emotions)


def frozen_digest(module: nn.Module) -> str:
    """SHA-256 over names and bytes of the parameters that do not train.

    Where they are sharded, all processes must call it.
    """
    digest = hashlib.sha256()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            digest.update(name.encode())
            whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            for tensor in plain_tensors(whole):
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a tensor is made of: itself, or the numbers and scales inside a quantised one."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from plain_tensors(getattr(tensor, name))
