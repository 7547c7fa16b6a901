"""How the learning rate rises and falls: factors of the peak rate, those of the papers among them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod


class Schedule(ABC):
    """Base of the schedules; what a subclass keeps as attributes decides the training, and is compared on resume."""

    @abstractmethod
    def factor(self, step: int, steps: float) -> float:
        """Share of the peak rate at an optimiser step.

        Args:
            step: Optimiser steps done, from 0.
            steps: Optimiser steps of the whole run; infinite where unknown.
        """


class Cosine(Schedule):
    """A linear rise, and a fall along half a cosine (FreezeEmpath); where the end is unknown, the rate stays up.

    Args:
        warmup: Rise: below 1 a share of the optimiser steps (paper: 0.03), else their number.
    """

    def __init__(self, warmup: float = 0.03) -> None:
        self.warmup = warmup

    def factor(self, step: int, steps: float) -> float:
        """In 0..1; 0 from the last step on."""
        rising = warmup_steps(steps, self.warmup)
        if step < rising:
            return (step + 1) / rising
        fallen = min(1.0, (step - rising) / max(1.0, steps - rising))
        return 0.5 * (1 + math.cos(math.pi * fallen))


class WarmupDecay(Schedule):
    """A rise with the logarithm of the step and a linear fall, as DeepSpeed's ``WarmupDecayLR`` in its default form.

    BLSP-Emo and RE-LLM used it. Where the end is unknown, the rate stays up.

    Args:
        warmup: Rise: below 1 a share of the optimiser steps, else their number, at least 2.
    """

    def __init__(self, warmup: float = 0.03) -> None:
        self.warmup = warmup

    def factor(self, step: int, steps: float) -> float:
        """In 0..1; 0 at the first step and from the last one on."""
        rising = max(2, warmup_steps(steps, self.warmup))
        if step < rising:
            return math.log(step + 1) / math.log(rising)
        if math.isinf(steps):
            return 1.0
        return max(0.0, (steps - step) / max(1.0, steps - rising))


class Linear(Schedule):
    """A linear rise and a linear fall (EPITOME: without a rise); where the end is unknown, the rate stays up.

    Args:
        warmup: Rise: below 1 a share of the optimiser steps, else their number; 0 begins at the peak.
    """

    def __init__(self, warmup: float = 0.0) -> None:
        self.warmup = warmup

    def factor(self, step: int, steps: float) -> float:
        """In 0..1; 0 from the last step on."""
        rising = warmup_steps(steps, self.warmup) if self.warmup else 0
        if step < rising:
            return (step + 1) / rising
        if math.isinf(steps):
            return 1.0
        return max(0.0, (steps - step) / max(1.0, steps - rising))


def warmup_steps(steps: float, warmup: float) -> int:
    """Optimiser steps in which the rate rises, at least one.

    Args:
        steps: Optimiser steps of the whole run; where unknown (infinite), a share is one of 10,000 steps.
        warmup: Below 1 a share of the steps, else a number of steps.
    """
    if warmup < 1:
        warmup *= 10_000 if math.isinf(steps) else steps
    return max(1, round(warmup))
