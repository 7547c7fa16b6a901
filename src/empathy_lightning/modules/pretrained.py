"""Where pretrained weights lie: a local folder, a model id, or the small backbones shipped with the package."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from transformers.utils.hub import cached_file

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


def commit_of(name_or_path: str, revision: str | None = None) -> str | None:
    """The commit of a model that was just loaded by its id; of a local folder, what was given.

    Args:
        name_or_path: Folder or model id.
        revision: Branch, tag or commit that was asked for.
    """
    if Path(locate(name_or_path)).is_dir():
        return revision
    # The cache's folders have the commits for names.
    file = cached_file(name_or_path, "config.json", revision=revision, local_files_only=True)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", Path(str(file)).as_posix())
    return found[1] if found else revision
