"""Where a process computes."""

from __future__ import annotations

import os

import torch

from empathy_lightning.errors import InputError


def own_device() -> str:
    """The GPU that torchrun gives this process, the first one where there is a single process, or else the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def check_device(name: str | None) -> None:
    """Refuse a device that is not there, before anything is loaded for it.

    Args:
        name: For example ``cuda:1``; None is always there.

    Raises:
        InputError: If it has no such name, or this machine lacks it.
    """
    try:
        if name is not None:
            # What comes back to the CPU tells a device from "meta", which takes any tensor and computes none.
            torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0][:120]
        raise InputError(
            f"device {name!r} cannot be used ({reason}): give cpu, or cuda:0 where there is a GPU"
        ) from None
