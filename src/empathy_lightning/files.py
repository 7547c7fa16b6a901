"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write under, which is renamed at the end and gone after an error.

    Args:
        path: The file; its folder is made.

    Raises:
        InputError: If it cannot be written: the disk is full, or a text is not UTF-8.
    """
    partial = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError | UnicodeEncodeError):
            raise InputError(f"{path} cannot be written: {error}") from None
        raise


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON; see :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_target(out: Path | None, sources: Iterable[Path | None]) -> None:
    """Refuse before the work what could not be written after it.

    Args:
        out: File to be written, if any.
        sources: Files that are read, where they are given.

    Raises:
        InputError: If it is a folder, or one of the files that are read.
    """
    if out is None:
        return
    if out.is_dir():
        raise InputError(f"{out} is a folder: give --out a file")
    if any(out.resolve() == source.resolve() for source in sources if source is not None):
        raise InputError(f"--out would write over {out}, which is read: give it another file")
    check_folder(out.parent)


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written to.

    Raises:
        InputError: If so.
    """
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise InputError(f"no folder can be made at {out}, {there} is a file: give --out another one")
    if not os.access(there, os.W_OK):
        raise InputError(f"nothing can be written to {there}: give --out another folder")


def usual_mode(path: Path) -> None:
    """Let a file be read by whom the user's umask allows; some writers keep it to the user alone."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
