"""Which model a name stands for, so that what it made is not taken for another one's."""

from __future__ import annotations

from pathlib import Path

from transformers.utils.hub import cached_file

from empathy_lightning.digests import folder_digest
from empathy_lightning.modules.pretrained import locate, opened


def model_identity(name_or_path: str) -> str:
    """Content of a model's folder, wherever it lies; of a model id, the name with the commit that is there.

    Raises:
        FileNotFoundError: If the name is a path, and nothing is there.
        PretrainedError: If there is no such model.
    """
    located = locate(name_or_path)
    if (folder := Path(located).expanduser()).is_dir():
        return f"sha256:{folder_digest(folder)}"
    # The Hub is asked once; transformers alone would ask five times, a line each.
    with opened(name_or_path) as (name, where):
        config = cached_file(name, "config.json", **where)
    # The cache keeps each commit in a folder of its name.
    return f"{located}@{Path(str(config)).parent.name}"
