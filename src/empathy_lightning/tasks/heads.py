"""Which of an emotion nuance module's heads were trained: the others hear nothing, whatever they say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor, nn

from empathy_lightning.folders import read_config
from empathy_lightning.parts import entries, is_entry
from empathy_lightning.utterance import RATINGS

HEADS = ("categorical", *RATINGS)


class HeadWatch:
    """The heads that a gradient has reached, noted on their device: nothing waits for it."""

    def __init__(self, reached: Iterable[str] = ()) -> None:
        self._before = set(reached)
        self._found: dict[str, Tensor] = {}

    def note(self, nuance: nn.Module | None) -> None:
        """Look at the gradients of an optimiser step."""
        for name, head in _heads(nuance).items():
            # One of zeros alone is from no loss: the task connects every trained parameter.
            gradients = [p.grad.any() for p in head.parameters() if p.grad is not None]
            if gradients and name not in self._before:
                reached = torch.stack(gradients).any()
                self._found[name] = reached | self._found.get(name, reached)

    def reached(self) -> list[str]:
        """Names of the heads."""
        return sorted(self._before | {name for name, found in self._found.items() if found})


def untrained_heads(nuance: nn.Module | None, reached: Collection[str], folders: Sequence[str]) -> list[str]:
    """Names of the heads that no loss has reached, here or in the stages before.

    Args:
        nuance: The module after training; None has no heads.
        reached: Heads that a gradient reached in this training.
        folders: Of the earlier stages from which it began; the last one with the module counts.
    """
    earlier = set(HEADS)
    for folder in folders:
        config = read_config(folder)
        for path, found in entries(config["model"]):
            if path == "listener" and is_entry(found["init_args"].get("emotion_nuance")):
                earlier = set(found["init_args"].get("untrained_heads", ()))
    return [name for name in _heads(nuance) if name in earlier and name not in reached]


def _heads(nuance: nn.Module | None) -> dict[str, nn.Module]:
    heads = {name: getattr(nuance, f"{name}_head", None) for name in HEADS}
    return {name: head for name, head in heads.items() if isinstance(head, nn.Module)}
