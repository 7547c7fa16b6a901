"""Where the bytes of a recording are: in a file or a part of one, in a row of a Parquet file, or in memory.

Files may lie behind URLs (:mod:`.storage`). ``FILE#BEGIN+SIZE`` is a recording whose bytes lie inside of another file,
as in our shards; ``FILE.parquet#ROW`` one in a row of any Parquet file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from empathy_lightning import storage
from empathy_lightning.errors import AudioError
from empathy_lightning.files import part_of_file
from empathy_lightning.storage import StorageError


@dataclass(frozen=True)
class InMemory:
    """An audio file that is on no disk.

    Attributes:
        data: All of its bytes.
        name: For messages.
    """

    data: bytes = field(repr=False)
    name: str = "the recording"

    def __str__(self) -> str:
        return self.name


Source = str | Path | InMemory
"""An audio file by its name or URL, a part of a file as ``FILE#BEGIN+SIZE``, one in a row of a Parquet file as
``FILE.parquet#ROW``, or one in memory."""


def source_of(path: Source) -> bytes | io.BytesIO:
    """What soundfile opens: a file's name in the system's bytes, or the bytes of another one.

    Raises:
        AudioError: If there is none.
    """
    if isinstance(path, InMemory):
        return io.BytesIO(path.data)
    name = storage.local_path(str(path))
    file, begin, size = part_of_file(name)
    if size is not None:
        return io.BytesIO(_part(file, begin, size))
    file, _, row = name.rpartition("#")
    if file.endswith(".parquet") and row.isdigit():
        return io.BytesIO(_row(file, int(row)))
    if storage.is_url(name):
        return io.BytesIO(_fetched(name))
    if not Path(name).is_file():
        what = "a folder; give its files" if Path(name).is_dir() else "no such file"
        raise AudioError(f"{path}: {what}")
    return os.fsencode(name)


def content(path: Source) -> bytes:
    """All bytes of a file, or of the recording in a part of one."""
    source = source_of(path)
    return source.getvalue() if isinstance(source, io.BytesIO) else Path(os.fsdecode(source)).read_bytes()


def _part(file: str, begin: int, size: int) -> bytes:
    if storage.is_url(file):
        return _heard(storage.read, file, begin, begin + size)
    try:
        with open(file, "rb") as opened:
            opened.seek(begin)
            data = opened.read(size)
    except OSError as error:
        raise AudioError(f"{file}: {error.strerror}") from None
    if len(data) < size:
        raise AudioError(f"{file}: cut, or another one than when its recordings were listed")
    return data


@lru_cache(maxsize=2)
def _fetched(url: str) -> bytes:
    """All bytes of a recording; the last two are kept, since who looks at the header goes on to decode it.

    Nothing is read by blocks: what fails inside of a decoder's reading would go unheard.
    """
    return _heard(storage.read, url)


def _heard(does: Callable[..., Any], *given: Any) -> Any:
    try:
        return does(*given)
    except StorageError as error:
        raise AudioError(str(error)) from error


def _row(shard: str, row: int) -> bytes:
    """The audio of a row: bytes, or a record that holds them, as on the Hugging Face hub."""
    metadata = _shard(shard, os.getpid()).metadata
    place = row
    for index in range(metadata.num_row_groups):
        size = metadata.row_group(index).num_rows
        if place < size:
            audio = _group(shard, index, os.getpid())["audio"][place].as_py()
            found = audio.get("bytes") if isinstance(audio, dict) else audio
            if not found:
                raise AudioError(f"{shard}: row {row} holds no audio")
            data: bytes = found
            return data
        place -= size
    raise AudioError(f"{shard}: has no row {row}")


@lru_cache(maxsize=8)
def _group(shard: str, index: int, process: int) -> Any:
    """The audio of a row group."""
    return _shard(shard, process).read_row_group(index, ["audio"])


@lru_cache(maxsize=64)
def _shard(name: str, process: int) -> Any:
    """An open shard; loader processes must not share one."""
    import pyarrow.parquet

    file = _heard(storage.open_unbuffered, name) if storage.is_url(name) else name
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise AudioError(f"{name}: {' '.join(str(error).split())}") from None
