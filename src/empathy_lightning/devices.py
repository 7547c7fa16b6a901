"""Where a process computes."""

from __future__ import annotations

import os

import torch


def own_device() -> str:
    """The GPU that torchrun gives this process, the first one where there is a single process, or else the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
