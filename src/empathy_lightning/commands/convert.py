"""``convert``: a released checkpoint becomes a folder of this library."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Literal


def convert(
    release: Literal["freezeempath", "blsp_emo", "re_llm", "audeering", "epitome"],
    source: Path,
    /,
    *,
    out: Path,
    dry_run: bool = False,
) -> int:
    """Turn a released checkpoint into a folder of this library.

    Args:
        release: Whose checkpoint it is.
        source: Folder of the release.
        out: Folder to write, which must not exist.
        dry_run: Only report the keys; exit code 1 if some are missing.

    Returns:
        0; 1 if keys are missing in a dry run.

    Raises:
        InputError: If the release cannot be used, or the folder is there.
    """
    report = import_module(f"empathy_lightning.conversion.{release}").convert(source, out, dry_run)
    print(report.describe())
    print("nothing was written" if dry_run else f"written: {out}")
    return 1 if dry_run and report.missing else 0
