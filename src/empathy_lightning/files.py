"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError

_BLOCK = 4096
"""Bytes that are written to see whether there is room."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write under, which is renamed at the end and gone after an error.

    Under torchrun each process has a name of its own, so that several may write the same file.

    Args:
        path: The file; its folder is made.

    Raises:
        InputError: If it cannot be written: the disk is full, or a text is not UTF-8.
    """
    rank = os.environ.get("RANK")
    before = "." if rank is None else f".process{rank}."
    partial = path.with_name(f"{before}{path.name}")
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8; see :func:`whole`."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON; see :func:`whole`."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def check_target(out: Path | None, sources: Iterable[Path | None]) -> None:
    """Refuse before the work what could not be written after it; a file of its name's length is tried.

    Args:
        out: File to be written, if any.
        sources: Files that are read, where they are given.

    Raises:
        InputError: If it is a folder or a device, lies where nothing can be written, or is one of the files that are
            read.
    """
    if out is None:
        return
    if os.path.isdir(out):
        raise InputError(f"{out} is a folder: give --out a file")
    if any(out.resolve() == source.resolve() for source in sources if source is not None):
        raise InputError(f"--out would write over {out}, which is read: give it another file")
    if os.path.exists(out) and not os.path.isfile(out):
        raise InputError(f"{out} is no plain file: give --out another one")
    _try(out.parent, [out.name])


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made, or in which no file can be made.

    Raises:
        InputError: If so.
    """
    _try(out, [])


def check_new_folder(out: Path) -> None:
    """Refuse a folder that holds something already, or that cannot be made.

    Raises:
        InputError: If so.
    """
    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is there already: give a new folder as --out")


def _try(folder: Path, names: list[str]) -> None:
    """Write a block where the folder is or would be, under a name as long as the longest that is to be made."""
    there = folder.absolute()
    while not os.path.lexists(there):
        names = [*names, there.name]
        there = there.parent
    if not there.is_dir():
        raise InputError(f"no folder can be made at {folder}, {there} is a file: give --out another one")
    # Modes and os.access do not tell: root may write everywhere but to a mount that is read-only or full.
    longest = max((len(os.fsencode(name)) for name in names), default=0)
    # mkstemp adds eight letters; `whole` writes under the name with a dot before it.
    prefix = ".try".ljust(longest - 7, "~")
    try:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=there)
        try:
            with open(descriptor, "wb") as file:
                file.write(bytes(_BLOCK))
        finally:
            os.unlink(name)
    except OSError as error:
        raise InputError(f"nothing can be written to {there} ({error.strerror}): give --out another place") from None


def part_of_file(name: str) -> tuple[str, int, int | None]:
    """File, first byte and number of bytes of a recording that lies inside of a file, as ``FILE#BEGIN+SIZE``.

    >>> part_of_file("part-0.parquet#4096+812"), part_of_file("take#7.wav")
    (('part-0.parquet', 4096, 812), ('take#7.wav', 0, None))
    """
    file, _, place = name.rpartition("#")
    begin, _, size = place.partition("+")
    if file and begin.isdigit() and size.isdigit():
        return file, int(begin), int(size)
    return name, 0, None


def file_of(path: str) -> str:
    """The file of a recording: itself, or the one that holds it as a part or a row.

    >>> file_of("part-0.parquet#4096+812"), file_of("part-0.parquet#7"), file_of("take#7.wav")
    ('part-0.parquet', 'part-0.parquet', 'take#7.wav')
    """
    file, _, size = part_of_file(path)
    if size is not None:
        return file
    file, _, row = path.rpartition("#")
    return file if file.endswith(".parquet") and row.isdigit() else path


def usual_mode(path: Path) -> None:
    """Let a file be read by whom the user's umask allows; some writers keep it to the user alone."""
    # The system tells the mask only to whom sets another one.
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
