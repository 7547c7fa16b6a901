"""Utterances as rows of a Parquet file, and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from empathy_lightning.corpora.corpus import CorpusError
from empathy_lightning.faults import Faults
from empathy_lightning.field_rules import FIELDS
from empathy_lightning.records import checked, unknown_field
from empathy_lightning.utterance import RATINGS, Utterance

ENCODED = ("raw_labels", "emotion_votes")
"""Fields that a Parquet file holds as JSON."""

MOST = 20_000
"""Records that are read and checked together."""


def from_parquet(file: Any, where: str, beside: Collection[str] = ()) -> Iterator[Utterance]:
    """Utterances from an open Parquet file, so many rows at a time, each column checked as a whole.

    Args:
        file: A ``pyarrow.parquet.ParquetFile``.
        where: Names it in errors.
        beside: Columns that it may have beside an utterance's.

    Raises:
        CorpusError: If a row is no utterance; row and field are named.
    """
    faults = Faults()
    names = [name for name in file.schema_arrow.names if name in FIELDS]
    for name in file.schema_arrow.names:
        if name not in (*FIELDS, *beside):
            faults.add(1, unknown_field(name))
    first = 1
    # Columns that are not read are not looked at, the recordings of a shard among them.
    for batch in file.iter_batches(MOST, columns=names):
        columns = {name: _values(batch.column(name), name) for name in names}
        yield from checked(columns, batch.num_rows, faults, first)
        first += batch.num_rows
    refuse(faults, where, "row")


def _values(column: Any, name: str) -> list[Any]:
    """A column's values; equal texts are one object, which is what makes millions of rows fit in memory."""
    import pyarrow.types as types

    if not types.is_string(column.type) and not types.is_large_string(column.type):
        return column.to_pylist()
    encoded = column.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    values = [*(map(_from_json, distinct) if name in ENCODED else distinct), None]
    return [values[index] for index in encoded.indices.fill_null(len(distinct)).to_numpy().tolist()]


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def to_table(utterances: Iterable[Utterance]) -> Any:
    """An Arrow table with one column a field; raw labels and votes are JSON."""
    import pyarrow

    rows = list(utterances)
    text, number = pyarrow.string(), pyarrow.float64()
    numbers = ("start", "end", "duration", "emotion_start", "emotion_end", *RATINGS)
    kinds = dict.fromkeys(FIELDS, text) | dict.fromkeys(numbers, number)
    kinds |= {"units": pyarrow.list_(pyarrow.int32()), "response_cut": pyarrow.bool_()}
    kinds["references"] = pyarrow.list_(text)
    columns = {name: [getattr(u, name) for u in rows] for name in FIELDS}
    for name in ENCODED:
        columns[name] = [json.dumps(v, ensure_ascii=False) if (v := getattr(u, name)) else None for u in rows]
    return pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})


def refuse(faults: Faults, where: str, unit: str) -> None:
    """Raise what is wrong in a file, if anything is."""
    if faults.count:
        raise CorpusError(faults.describe(f"{where}, {unit} {faults.row}"))
