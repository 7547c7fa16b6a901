"""Where the bytes of a recording are: in a file, in a row of a Parquet shard, or in memory."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from empathy_lightning.errors import AudioError


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
"""An audio file by its name, one in a shard as ``SHARD.parquet#ROW``, or one in memory."""


def source_of(path: Source) -> bytes | io.BytesIO:
    """What soundfile opens: a file's name in the system's bytes, or the audio in a row of a Parquet shard.

    Raises:
        AudioError: If there is none.
    """
    if isinstance(path, InMemory):
        return io.BytesIO(path.data)
    shard, _, row = str(path).rpartition("#")
    if shard.endswith(".parquet"):
        return io.BytesIO(_row(shard, int(row)))
    if not Path(path).is_file():
        raise AudioError(f"{path}: {'a folder; give its files' if Path(path).is_dir() else 'no such file'}")
    return os.fsencode(path)


def content(path: Source) -> bytes:
    """All bytes of a file, or of the audio in a row of a shard."""
    source = source_of(path)
    return source.getvalue() if isinstance(source, io.BytesIO) else Path(os.fsdecode(source)).read_bytes()


def _row(shard: str, row: int) -> bytes:
    """The audio of a row: bytes, as in our shards, or a record that holds them, as on the Hugging Face hub."""
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
    import fsspec
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(fsspec.open(name, "rb").open())
    except (OSError, pyarrow.ArrowException) as error:
        raise AudioError(f"{name}: {' '.join(str(error).split())}") from None
