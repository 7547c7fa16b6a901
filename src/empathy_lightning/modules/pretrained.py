"""Where pretrained weights lie: a local folder, a model id, or the small backbones shipped with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

SHIPPED = "small-world/"
"""Prefix of the shipped backbones: ``small-world/speech_encoder`` and ``small-world/language_model``."""


def locate(name_or_path: str) -> str:
    """Folder of a shipped backbone, or the name as it is for transformers to load.

    Raises:
        FileNotFoundError: If the name is a path, and nothing is there.
    """
    if name_or_path.startswith(SHIPPED) and not Path(name_or_path).exists():
        return str(files("empathy_lightning") / "backbones" / name_or_path.removeprefix(SHIPPED))
    if name_or_path.startswith(("/", "./", "../", "~")) and not Path(name_or_path).expanduser().is_dir():
        raise FileNotFoundError(f"no model folder at {name_or_path}")
    return name_or_path


def commit_of(config: Any, revision: str | None) -> str | None:
    """The commit from which a model was loaded, where it came by its id; of a local folder, what was given.

    Args:
        config: transformers' configuration of the loaded model.
        revision: Branch, tag or commit that was asked for.
    """
    return getattr(config, "_commit_hash", None) or revision
