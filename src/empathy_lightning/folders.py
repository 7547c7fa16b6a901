"""A folder's two files: config.json, which names the parts, and model.safetensors with their weights.

Nothing is ever unpickled from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from empathy_lightning import __version__
from empathy_lightning.checkpoint_backbones import portable, recorded
from empathy_lightning.errors import InputError
from empathy_lightning.files import usual_mode, whole, write_json
from empathy_lightning.hub import local_folder
from empathy_lightning.modules.model_files import PretrainedError, check_file
from empathy_lightning.parts import entries, is_entry


class CheckpointError(InputError):
    """A checkpoint folder that is incomplete or does not fit; the message says what is wrong."""


def read_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both files hold.

    Args:
        folder: A folder or a name of the Hub, see :func:`.hub.local_folder`.

    Raises:
        CheckpointError: If one is missing or damaged, or of another version.
    """
    config = read_config(folder)
    file = local_folder(folder) / "model.safetensors"
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

    Args:
        folder: A folder or a name of the Hub, see :func:`.hub.local_folder`.

    Raises:
        CheckpointError: If it is missing or damaged, or of another version.
    """
    file = local_folder(folder) / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} is no checkpoint folder: {_lacking(file)}")
    try:
        check_file(file)
        config = json.loads(file.read_text(encoding="utf-8"))
    except PretrainedError as error:
        raise CheckpointError(str(error)) from None
    except ValueError as error:
        raise CheckpointError(f"{folder} is damaged: {error}") from None
    if not isinstance(config, dict) or config.get("library") != "empathy_lightning":
        raise CheckpointError(f"{file} was not written by this library")
    if not is_entry(config.get("model")):
        raise CheckpointError(f"{folder} has the form of an older version: train or convert it again with this one")
    try:
        list(entries(config["model"]))
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{folder} is damaged: the model in config.json is no tree of parts") from None
    return config


def _lacking(config: Path) -> str:
    """Why there is no config.json."""
    if config.parent.is_dir():
        return "config.json is missing"
    return "it is a file; give its folder" if config.parent.exists() else "there is nothing; train it first"


def write_folder(folder: str | Path, model: dict[str, Any], weights: dict[str, Any], **facts: Any) -> None:
    """Write config.json and model.safetensors; each file appears whole or not at all.

    Args:
        folder: Made if it does not exist.
        model: Its entry, of :func:`.parts.described`.
        weights: By path and name.
        **facts: What else config.json is to hold.
    """
    folder = Path(folder)
    weights = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    # The weights first: before its config.json is there, a new folder is no checkpoint.
    with whole(folder / "model.safetensors") as partial:
        save_file(weights, partial, metadata={"format": "pt"})
        usual_mode(partial)
    model = portable(model, folder)
    facts["backbones"] = recorded(model, folder)
    config = {"library": "empathy_lightning", "version": __version__, **facts, "model": model}
    write_json(folder / "config.json", config)
