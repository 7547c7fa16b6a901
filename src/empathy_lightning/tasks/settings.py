"""What decides a training beside data, trainer and parts, in words and numbers that a checkpoint holds."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from empathy_lightning.tasks.schedule import Schedule


def settings(optimizer: Optimizer, schedule: Schedule, loss_weights: dict[str, float]) -> dict[str, Any]:
    """The settings by the names under which the command line sets them, such as ``optimizer.lr``.

    Args:
        optimizer: As it was made, before a step.
        schedule: Of its rate.
        loss_weights: Of the losses, by name.
    """
    found: dict[str, Any] = {"optimizer": _class_of(optimizer)}
    found |= {f"optimizer.{name}": plain(value) for name, value in optimizer.defaults.items()}
    # Where its groups differ, each is told apart.
    for number, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if name not in ("params", "initial_lr") and plain(value) != found.get(f"optimizer.{name}"):
                found[f"optimizer.{name}[{number}]"] = plain(value)
    found["schedule"] = _class_of(schedule)
    found |= {f"schedule.{name}": plain(value) for name, value in vars(schedule).items()}
    found["loss_weights"] = loss_weights
    return found


def _class_of(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def plain(value: Any) -> Any:
    """A value as a checkpoint holds it: numbers, truths and texts as they are, lists of them, all else as a text."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(value)
