"""Released files that did not come whole."""

from __future__ import annotations

from pathlib import Path

from empathy_lightning.errors import InputError
from empathy_lightning.modules.model_files import PretrainedError, check_file


def check_whole(path: Path) -> None:
    """Refuse a file that is a Git LFS pointer, empty, cut or no JSON.

    Raises:
        InputError: If so.
    """
    try:
        check_file(path)
    except PretrainedError as error:
        raise InputError(str(error)) from None
