"""The rows of what suites come as: JSON, JSON Lines, and the Parquet files of the Hugging Face hub with their audio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from empathy_lightning.corpora.corpus import decode


class Row(NamedTuple):
    """A record of a file.

    Attributes:
        values: Its values by name, without the audio.
        place: Where it stands, for messages.
        audio: The audio inside a Parquet file, as :func:`empathy_lightning.audio.read` takes it; None elsewhere.
    """

    values: dict[str, Any]
    place: str
    audio: str | None = None


Lost = Callable[[str, str], None]
"""Told of a place and of why nothing could be read there, as :meth:`.Corpus.skip`."""


def json_rows(file: Path, lost: Lost) -> Iterator[Row]:
    """Objects of a file that holds a list of them, or one in each line.

    Args:
        file: JSON or JSON Lines.
        lost: Told of what is no object.
    """
    text = decode(file, "gb18030")
    for place, record in _records(file, text, lost):
        if isinstance(record, dict):
            yield Row(record, place)
        else:
            lost(place, "not a JSON object")


def objects_of(value: Any) -> list[dict[str, Any]]:
    """The objects in a value that should be a list of them; what is something else is left out."""
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _records(file: Path, text: str, lost: Lost) -> Iterator[tuple[str, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        # Several lines of JSON are no JSON together; names of files do not tell which it is.
        yield from _lines(file, text, lost)
        return
    records = whole if isinstance(whole, list) else [whole]
    for number, record in enumerate(records):
        yield f"{file}, record {number}", record


def _lines(file: Path, text: str, lost: Lost) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{file}, line {number}"
        try:
            if line.strip():
                yield place, json.loads(line)
        except ValueError as error:
            lost(place, f"not JSON ({error})")


def parquet_rows(file: Path, lost: Lost) -> Iterator[Row]:
    """Rows of a Parquet file of the hub, whose column ``audio`` holds the bytes of a sound file in each.

    Args:
        file: As it was downloaded.
        lost: Told of a file that cannot be read, or that holds no audio.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        columns = parquet.schema_arrow.names
        if "audio" not in columns:
            lost(str(file), "no column named audio")
            return
        table = parquet.read([name for name in columns if name != "audio"])
    except (pyarrow.ArrowException, OSError) as error:
        lost(str(file), f"not a Parquet file, or a damaged one: {' '.join(str(error).split())}")
        return
    # The audio is named and not read: a set's recordings may be larger than the memory.
    for number, values in enumerate(table.to_pylist()):
        yield Row(values, f"{file}, row {number}", f"{file.absolute()}#{number}")
