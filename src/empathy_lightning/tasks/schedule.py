"""How the learning rate rises and falls: the schedules of both papers as factors of the peak rate."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["cosine", "warmup_decay"]


def factor(schedule: ScheduleName, step: int, steps: float, warmup: float) -> float:
    """Share of the peak rate at an optimiser step.

    ``cosine`` rises linearly and falls along half a cosine (FreezeEmpath). ``warmup_decay`` rises with the logarithm
    and falls linearly, as DeepSpeed's ``WarmupDecayLR`` does in its default form (BLSP-Emo, RE-LLM).

    Args:
        schedule: Name of the schedule.
        step: Optimiser steps done, from 0.
        steps: Optimiser steps of the whole run; infinite where unknown, and then the rate stays up.
        warmup: Below 1 a share of the steps, else a number of steps.

    Returns:
        In 0..1; 0 from the last step on.
    """
    rising = warmup_steps(steps, warmup)
    if schedule == "warmup_decay":
        rising = max(2, rising)
        if step < rising:
            return math.log(step + 1) / math.log(rising)
        return 1.0 if math.isinf(steps) else max(0.0, (steps - step) / max(1.0, steps - rising))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1.0, steps - rising))))


def warmup_steps(steps: float, warmup: float) -> int:
    """Optimiser steps in which the rate rises, at least one.

    Args:
        steps: Optimiser steps of the whole run; where unknown (infinite), a share is one of 10,000 steps.
        warmup: Below 1 a share of the steps, else a number of steps.
    """
    share_of = 10_000 if math.isinf(steps) else steps
    return max(1, round(warmup * share_of if warmup < 1 else warmup))
