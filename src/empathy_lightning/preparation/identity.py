"""Which model a name stands for, so that what it made is not taken for another one's."""

from __future__ import annotations

from pathlib import Path

from transformers.utils.hub import cached_file

from empathy_lightning.errors import InputError
from empathy_lightning.jobs import folder_digest
from empathy_lightning.modules.pretrained import locate


def model_identity(name_or_path: str) -> str:
    """Content of a model's folder, wherever it lies; of a model id, the name with the commit that is there.

    Raises:
        FileNotFoundError: If the name is a path, and nothing is there.
        InputError: If there is no such model.
    """
    located = locate(name_or_path)
    if (folder := Path(located).expanduser()).is_dir():
        return f"sha256:{folder_digest(folder)}"
    try:
        config = cached_file(located, "config.json")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"model {name_or_path} cannot be loaded: {reason}") from None
    # The cache keeps each commit in a folder of its name.
    return f"{located}@{Path(str(config)).parent.name}"
