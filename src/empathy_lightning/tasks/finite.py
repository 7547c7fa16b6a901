"""Whether losses and weights are numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from empathy_lightning.errors import InputError


class LossWatch:
    """The step at which each loss was first NaN or infinite, kept on the losses' device: nothing waits for it."""

    def __init__(self) -> None:
        self._first: dict[str, Tensor] = {}

    def note(self, losses: Mapping[str, Tensor], step: int) -> None:
        """Look at the losses of a batch.

        Args:
            losses: Scalars by name.
            step: Optimiser steps done.
        """
        for name, loss in losses.items():
            value = loss.detach().float()
            first = self._first.get(name, torch.full_like(value, math.inf))
            broken = ~value.isfinite() & first.isinf()
            self._first[name] = torch.where(broken, float(step), first)

    def check(self) -> None:
        """Wait for the device and look.

        Raises:
            InputError: If a loss was not finite; names the first.
        """
        if not self._first:
            return
        steps = dict(zip(self._first, torch.stack(list(self._first.values())).tolist(), strict=True))
        name = min(steps, key=lambda name: steps[name])
        if math.isfinite(steps[name]):
            raise InputError(
                f"{name} is NaN or infinite after {steps[name]:.0f} optimiser steps: the run ends and exports "
                "nothing; look at this loss and its labels, or lower --model.optimizer.lr"
            )


def check_finite(parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse weights that are not numbers.

    Args:
        parameters: With their names.

    Raises:
        InputError: If one is NaN or infinite.
    """
    for name, parameter in parameters:
        if not bool(parameter.detach().isfinite().all()):
            raise InputError(
                f"weight {name} is NaN or infinite: nothing is saved or exported; lower --model.optimizer.lr"
            )
