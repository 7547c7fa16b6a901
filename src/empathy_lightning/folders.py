"""A folder's two files: config.json, which names the parts, and model.safetensors with their weights.

Nothing is ever unpickled from it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from empathy_lightning import __version__
from empathy_lightning.errors import InputError
from empathy_lightning.files import usual_mode, whole, write_json
from empathy_lightning.modules.model_files import PretrainedError, check_file
from empathy_lightning.parts import build, is_entry


class CheckpointError(InputError):
    """A checkpoint folder that is incomplete or does not fit; the message says what is wrong."""


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both files hold.

    Raises:
        CheckpointError: If one is missing or damaged, or of another version.
    """
    config = read_config(folder)
    file = Path(folder) / "model.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{folder} is no checkpoint folder: {file.name} is missing")
    try:
        check_file(file)
        return config, load_file(file)
    except PretrainedError as error:
        raise CheckpointError(str(error)) from None
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None


def read_config(folder: str | Path) -> dict[str, Any]:
    """What config.json holds.

    Raises:
        CheckpointError: If it is missing or damaged, or of another version.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} is no checkpoint folder: config.json is missing")
    try:
        check_file(file)
        config = json.loads(file.read_text(encoding="utf-8"))
    except PretrainedError as error:
        raise CheckpointError(str(error)) from None
    except ValueError as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    if not isinstance(config, dict) or config.get("library") != "empathy_lightning":
        raise CheckpointError(f"{file} was not written by this library")
    entries = [*config.get("parts", {}).values(), *config.get("backbones", {}).values()]
    if not all(is_entry(found) for found in entries):
        raise CheckpointError(f"{folder} has the form of an older version: train or convert it again with this one")
    return config


def fill(name: str, module: nn.Module, weights: dict[str, Any], folder: str | Path, whole: bool = True) -> None:
    """Put a part's weights of a folder into its module.

    Args:
        name: Of the part.
        module: To be filled.
        weights: Of all parts, each key with its part's name before it.
        folder: For the messages.
        whole: Whether all of the module's weights must be there.

    Raises:
        CheckpointError: If they do not fit.
    """
    own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    try:
        missing, unexpected = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {name} has other sizes: {' '.join(str(error).split())}"[:300]) from None
    wrong = [key for key in missing if whole and not key.endswith("model.lm_head.weight")] + unexpected
    if wrong:
        raise CheckpointError(f"{folder}: {name} does not fit: missing or unknown weights {', '.join(wrong[:3])}")


def load_part(folder: str | Path, name: str, trust: Sequence[str] = ()) -> nn.Module:
    """Load one part of a folder, in eval mode.

    Raises:
        CheckpointError: If the folder holds none of that name, or it does not fit.
    """
    config, weights = read_folder(folder)
    if name not in config.get("parts", {}):
        raise CheckpointError(f"{folder} holds no {name.replace('_', ' ')}")
    try:
        part = build(config["parts"][name], trust)
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    fill(name, part, weights, folder)
    return part.eval()


def write_folder(folder: str | Path, config: dict[str, Any], weights: dict[str, Any]) -> None:
    """Write config.json and model.safetensors as :func:`load` reads them; each file appears whole or not at all."""
    folder = Path(folder)
    weights = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    with whole(folder / "model.safetensors") as partial:
        save_file(weights, partial, metadata={"format": "pt"})
        usual_mode(partial)
    write_json(folder / "config.json", {"library": "empathy_lightning", "version": __version__, **config})
