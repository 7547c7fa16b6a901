"""A file given as ``--ckpt_path``: whether a training has saved it, told before a model is loaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from empathy_lightning.errors import InputError

_MEASURED = {"state_dict": dict, "pytorch-lightning_version": str, "epoch": int, "global_step": int}
_RESUMED = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}


def read_checkpoint(path: Path, fit: bool) -> dict[str, Any]:
    """What a checkpoint holds; its tensors stay on the disk until they are used.

    Args:
        path: The file.
        fit: Whether a training is to go on from it, which takes more than its weights.

    Raises:
        InputError: If it is no file that a training has saved whole.
    """
    give = "give --ckpt_path a file that `fit` saved, such as last.ckpt"
    if path.is_dir():
        raise InputError(f"{path} is a folder: {give}; a stage's folder goes to --model.initial_weights")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: {give}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path} holds more than tensors, numbers and texts, so it is not read: {give}") from None
    except (RuntimeError, OSError, EOFError, ValueError):
        raise InputError(f"{path} is no checkpoint, or was cut when it was written or copied: {give}") from None
    needed = _MEASURED | _RESUMED if fit else _MEASURED
    for key, kind in needed.items():
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), kind):
            continue
        if key in _RESUMED:
            raise InputError(f"{path} holds weights alone, without {key}: no training can go on from it; {give}")
        raise InputError(f"{path} is no checkpoint of a training, it has no {key}: {give}")
    return checkpoint
