"""Which of an emotion nuance module's heads were trained: the others hear nothing, whatever they say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim import Optimizer

from empathy_lightning.folders import read_config
from empathy_lightning.parts import entries, is_entry
from empathy_lightning.utterance import RATINGS

HEADS = ("categorical", *RATINGS)


def untrained_heads(nuance: nn.Module | None, optimizers: Sequence[Optimizer], folders: Sequence[str]) -> list[str]:
    """Names of the heads that no loss has reached, here or in the stages before.

    Args:
        nuance: The module after training; None has no heads.
        optimizers: Of this training; the moments of a weight stay 0 where no gradient ever came.
        folders: Of the earlier stages from which it began; the last one with the module counts.
    """
    earlier = set(HEADS)
    for folder in folders:
        config = read_config(folder)
        for path, found in entries(config["model"]):
            if path == "listener" and is_entry(found["init_args"].get("emotion_nuance")):
                earlier = set(found["init_args"].get("untrained_heads", ()))
    heads = {name: head for name in HEADS if isinstance(head := getattr(nuance, f"{name}_head", None), nn.Module)}
    return [name for name, head in heads.items() if name in earlier and not _reached(head, optimizers)]


def _reached(module: nn.Module, optimizers: Sequence[Optimizer]) -> bool:
    states = [optimizer.state[p] for optimizer in optimizers for p in module.parameters() if p in optimizer.state]
    moments = [value for state in states for name, value in state.items() if name != "step"]
    return any(bool(moment.any()) for moment in moments if isinstance(moment, torch.Tensor))
