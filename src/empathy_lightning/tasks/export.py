"""Write the trained parts to a folder when training ends."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn
from torch.distributed.tensor import DTensor

from empathy_lightning.checkpoints import check_savable, emotion_names
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, write_json
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.finite import check_finite
from empathy_lightning.tasks.heads import untrained_heads
from empathy_lightning.tasks.stage_record import stages_of


class Export(L.Callback):
    """At the end of ``fit``, take the best weights and write the checkpoint folder.

    A dry run (``fast_dev_run``), one that was interrupted and one whose weights are not finite write nothing, and
    what an earlier run wrote stays as it is. Beside the weights lies ``training.json``: the logged figures per epoch,
    the time that training took, the stages so far with their corpora, and whether the frozen weights are byte-identical
    to those before it.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.history: list[dict[str, float | None]] = []
        self._frozen = ""
        self._begin = 0.0
        self._earlier = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Refuse what could not be written in the end, and remember what must not change.

        Raises:
            InputError: If the folder cannot be written to, the model cannot be saved, or its weights are in shards.
        """
        check_folder(Path(self.folder))
        if isinstance(trainer.strategy, FSDPStrategy):
            raise InputError(
                "Export cannot gather what FSDPStrategy shards: use empathy_lightning.tasks.ShardedBackboneStrategy"
            )
        if isinstance(pl_module.model, EmpatheticLM):
            pl_module.model.emotions = self._emotions(trainer, pl_module)
        check_savable(pl_module.model)
        self._begin = time.time()
        self._frozen = self._digest(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The history goes on where a run is resumed, and so does the time."""
        return {"history": self.history, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an interrupted run's history."""
        self.history, self._earlier = state_dict["history"], state_dict["seconds"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch's figures for the curves, once all of them are there."""
        if trainer.sanity_checking:
            return
        entry: dict[str, float | None] = {"step": trainer.global_step}
        for name, value in trainer.callback_metrics.items():
            if "/" in name:
                figure = float(value)
                # JSON has no word for NaN.
                entry[name] = round(figure, 6) if math.isfinite(figure) else None
        self.history.append(entry)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the folder, on the first process only; the others give their shards of what is frozen.

        Raises:
            InputError: If the weights are not finite.
        """
        if trainer.fast_dev_run:
            return
        digest = self._digest(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
            # It holds what trains alone.
            pl_module.load_state_dict(state, strict=False)
        check_finite((n, p) for n, p in pl_module.named_parameters() if p.requires_grad)
        if isinstance(pl_module.model, EmpatheticLM):
            listener = pl_module.model.listener
            folders, reached = pl_module.initial_weights, pl_module.heads.reached()
            listener.untrained_heads = untrained_heads(listener.emotion_nuance, reached, folders)
        pl_module.export(self.folder)
        facts = {
            "seconds": round(self._seconds(), 1),
            "frozen_sha256": digest,
            "frozen_unchanged": digest == self._frozen,
            "stages": stages_of(trainer, pl_module, self.history),
            "history": self.history,
        }
        write_json(Path(self.folder) / "training.json", facts)

    def _seconds(self) -> float:
        """Time that training took, before an interruption too."""
        return self._earlier + time.time() - self._begin

    def _digest(self, trainer: L.Trainer, pl_module: L.LightningModule) -> str:
        """On the first process alone, or on all where each holds a part."""
        sharded = any(isinstance(p, DTensor) for p in pl_module.parameters())
        return frozen_digest(pl_module) if sharded or trainer.is_global_zero else ""

    def _emotions(self, trainer: Any, pl_module: Any) -> list[str]:
        """Names of the classifier's categories, checked before a long run rather than after it."""
        emotions = list(getattr(trainer.datamodule, "emotions", []))
        nuance = pl_module.model.listener.emotion_nuance
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
