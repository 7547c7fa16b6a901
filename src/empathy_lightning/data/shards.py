"""Parquet shards that hold the encoded audio itself, for corpora too large for loose files.

A shard has the columns of a manifest and two more: ``audio``, the bytes of a FLAC or WAV file, and ``audio_bytes``, how
many they are. The bytes are stored as they are, so that a recording is a range of its shard: an utterance's path says
which (``part-00000.parquet#BEGIN+SIZE``), and nothing else is read to hear it. To list the utterances, only the other
columns are read. Shards may lie on disk or behind any URL that fsspec opens.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from empathy_lightning import storage
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.manifest import PATHS, absolute, refuse_doubled
from empathy_lightning.data.packed import Packed, packed
from empathy_lightning.data.rows import from_parquet
from empathy_lightning.utterance import Utterance

AUDIO, SIZES = "audio", "audio_bytes"
"""Columns that a shard has beside a manifest's."""

CLAIM = "made_from.json"
"""File beside the shards that says what they were made from, and how many there are to be."""

_TAIL = 2**15
"""Bytes at the end of a file in which its footer is looked for first."""

_AT_ONCE = 16
"""Shards that are listed at the same time where each is asked for over a network."""

_LENGTH = 4
"""Bytes in front of each value that say how long it is."""

_HEADER = 200
"""Most bytes of the header of a page."""


class Shards(Corpus):
    """Utterances of a folder of shards; their paths name the bytes of each recording.

    Args:
        root: Folder or URL, for example ``s3://bucket/corpus``; libraries for other protocols are fsspec's.
    """

    name = "shards"
    access = "write shards with `empathy-lightning corpora export NAME ROOT --out FOLDER --shards`"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """All shards in the order of their names."""
        root = storage.local_path(self.root).rstrip("/")
        names = shard_names(root)
        read = partial(_utterances, f"{root}/")
        if not storage.is_url(root):
            for name in names:
                yield from read(name)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for first in range(0, len(names), _AT_ONCE):
                for utterances in pool.map(read, names[first : first + _AT_ONCE]):
                    yield from utterances

    def utterances(self) -> Packed:
        """All utterances.

        Raises:
            CorpusError: If there are no shards, fewer than there are to be, or others than ``corpora export`` writes.
            StorageError: If they lie elsewhere and cannot be read.
        """
        found = packed(self.read(Path(self.root)))
        if not found:
            raise CorpusError(f"no shards (part-*.parquet) at {self.root}; {self.access}")
        return found


def shard_names(root: str) -> list[str]:
    """Files or URLs of the shards in a folder, in order.

    Raises:
        CorpusError: If the export that writes them has not come to its end.
        StorageError: If they cannot be listed.
    """
    claim = read_claim(root)
    parts = None if claim is None else claim.get("parts")
    if parts is not None and root.startswith(("http://", "https://")):
        # A web server lists no folders; what is missing is told when it is read.
        return [f"{root}/{part_name(index)}" for index in range(parts)]
    if storage.is_url(root):
        names = storage.files_in(root, "part-*.parquet")
    else:
        names = sorted(map(str, Path(root).glob("part-*.parquet")))
    if parts is not None and names and len(names) < parts:
        raise CorpusError(
            f"{root} holds {len(names)} of {parts} shards: let `corpora export --shards` go on to its end"
        )
    return names


def part_name(index: int) -> str:
    """Name of a shard in its folder."""
    return f"part-{index:05d}.parquet"


def read_claim(root: str) -> dict[str, Any] | None:
    """What the shards of a folder say that they were made from; None where nothing says it."""
    name = f"{root}/{CLAIM}"
    if storage.is_url(root):
        data = storage.read(name) if storage.exists(name) else None
    else:
        data = Path(name).read_bytes() if Path(name).is_file() else None
    if data is None:
        return None
    try:
        values: dict[str, Any] = json.loads(data)
    except ValueError:
        raise CorpusError(f"{name} is damaged: export the shards again") from None
    return values


def _utterances(home: str, name: str) -> list[Utterance]:
    """Utterances of one shard; what lies beside it is named from its folder, ``home``."""
    import pyarrow

    try:
        file = _opened(name)
        utterances = list(from_parquet(file, name, beside=(AUDIO, SIZES)))
        ranges = ranges_of(file, name)
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{name} is not a Parquet file, or a damaged one: {' '.join(str(error).split())}") from None
    refuse_doubled(utterances, name, range(1, len(utterances) + 1))
    for utterance, (begin, size) in zip(utterances, ranges, strict=True):
        for field in PATHS:
            if (path := getattr(utterance, field)) is not None:
                setattr(utterance, field, absolute(home, path))
        utterance.path = f"{name}#{begin}+{size}"
        utterance.start, utterance.end = 0.0, None
    return utterances


def ranges_of(file: Any, name: str) -> list[tuple[int, int]]:
    """First byte and number of bytes of each recording in a shard.

    The recordings of a row group are one page of the Parquet format: a header, then each value behind its length.

    Args:
        file: A ``pyarrow.parquet.ParquetFile``.
        name: Names it in errors.

    Raises:
        CorpusError: If the audio is stored in another way.
    """
    if SIZES not in file.schema_arrow.names:
        raise CorpusError(f"{name} has no column {SIZES}: export the shards again with this version")
    sizes = file.read([SIZES])[SIZES].to_pylist()
    found = []
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        here, sizes = sizes[: group.num_rows], sizes[group.num_rows :]
        columns = map(group.column, range(group.num_columns))
        audio = next(column for column in columns if column.path_in_schema == AUDIO)
        values = sum(_LENGTH + size for size in here)
        begin = audio.data_page_offset + audio.total_compressed_size - values
        if not 0 < begin - audio.data_page_offset < _HEADER:
            raise CorpusError(f"{name} was not written by `corpora export --shards`: its audio is no plain column")
        steps = accumulate((_LENGTH + size for size in here), initial=begin + _LENGTH)
        found += list(zip(steps, here, strict=False))
    return found


def _opened(name: str) -> Any:
    """A shard of which all columns but the audio can be read."""
    import pyarrow
    import pyarrow.parquet

    if not storage.is_url(name):
        return pyarrow.parquet.ParquetFile(name, memory_map=True)
    size = storage.size_of(name)
    tail = storage.read(name, max(0, size - _TAIL), size)
    # A Parquet file ends in its footer, four bytes that say how long that is, and "PAR1".
    footer = 8 + int.from_bytes(tail[-8:-4], "little")
    if tail[-4:] != b"PAR1" or footer > size:
        raise CorpusError(f"{name} is not a Parquet file, or a damaged one")
    if footer > len(tail):
        tail = storage.read(name, size - footer, size - len(tail)) + tail
    metadata = pyarrow.parquet.read_metadata(pyarrow.BufferReader(tail))
    ranges = _beside_audio(metadata)
    # As long as the file, and in memory only where something is written.
    sparse = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    sparse[size - len(tail) :] = tail
    for (begin, end), data in zip(ranges, storage.read_ranges(name, ranges), strict=True):
        sparse[begin:end] = data
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(pyarrow.py_buffer(sparse)), metadata=metadata)


def _beside_audio(metadata: Any) -> list[tuple[int, int]]:
    """Ranges of bytes in which the columns but the audio lie; neighbours are one range."""
    found: list[tuple[int, int]] = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema == AUDIO:
                continue
            begin = column.dictionary_page_offset or column.data_page_offset
            end = begin + column.total_compressed_size
            if found and found[-1][1] == begin:
                begin = found.pop()[0]
            found.append((begin, end))
    return found
