"""Utterances by the million: their records lie in a file, and one is made when it is asked for.

The file is a temporary one that nobody else sees, with a block of Arrow columns after the other, and mapped: what is
read of it are pages that the system takes back where memory is short, and that loader processes share.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise, repeat
from operator import attrgetter
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from empathy_lightning.errors import InputError
from empathy_lightning.field_rules import DEFAULTS, FIELDS, REQUIRED
from empathy_lightning.utterance import Utterance

BLOCK = 8_192
"""Records that are packed together."""

_OBJECTS = ("raw_labels", "emotion_votes")
_JSON = {b"as": b"json"}
_values_of = attrgetter(*FIELDS)


class Packed(Sequence[Utterance]):
    """Utterances of which four bytes each are held; :func:`packed` makes them.

    A record that comes out is a new one each time: what is changed in it is changed there alone.

    Args:
        blocks: Arrow record batches, each of :data:`BLOCK` rows but for the last.
        rows: Which of their rows, shape (N,).
    """

    def __init__(self, blocks: Sequence[Any], rows: NDArray[np.int32]) -> None:
        self._blocks = blocks
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Utterance: ...
    @overload
    def __getitem__(self, place: slice) -> Packed: ...
    def __getitem__(self, place: int | slice) -> Utterance | Packed:
        if isinstance(place, slice):
            return Packed(self._blocks, self._rows[place])
        number, row = divmod(int(self._rows[place]), BLOCK)
        block = self._blocks[number]
        given = {field.name: _value(field, block.column(index)[row]) for index, field in enumerate(block.schema)}
        return Utterance(**given)

    def __iter__(self) -> Iterator[Utterance]:
        return (Utterance(*values) for values in self.each(*FIELDS))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(own == its for own, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def each(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Some fields of each utterance, far quicker than whole records."""
        numbers = self._rows // BLOCK
        bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(self)]
        for begin, end in pairwise(bounds):
            if begin < end:
                rows = self._rows[begin:end] % BLOCK
                block = self._blocks[numbers[begin]]
                part = block if len(rows) == block.num_rows and (np.diff(rows) == 1).all() else block.take(rows)
                yield from zip(*(_column(part, name) for name in names), strict=True)

    def take(self, rows: Any) -> Packed:
        """Some of the utterances, by their places or by a mask, shape (N,); the records stay where they are."""
        chosen = np.asarray(rows)
        return Packed(self._blocks, self._rows[chosen if len(chosen) else []])

    def where(self, name: str, value: Any) -> Packed:
        """The utterances of which a field has a value."""
        return self.take(np.fromiter((own == value for (own,) in self.each(name)), bool, len(self)))


def packed(utterances: Iterable[Utterance]) -> Packed:
    """Put utterances into a file, so many at a time; few of them stay in memory, those that are packed as they are.

    Raises:
        InputError: If the folder for temporary files has no room for them.
    """
    if isinstance(utterances, Packed):
        return utterances
    rest = iter(utterances)
    rows = list(islice(rest, BLOCK))
    count = len(rows)
    if count < BLOCK:
        return Packed([_block(rows)], np.arange(count, dtype=np.int32))
    ends = [0]
    with tempfile.TemporaryFile(buffering=0) as file:
        while rows:
            ends.append(ends[-1] + _write(file, _block(rows)))
            rows = list(islice(rest, BLOCK))
            count += len(rows)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Packed(_opened(mapped, ends), np.arange(count, dtype=np.int32))


def each(utterances: Sequence[Utterance], *names: str) -> Iterator[tuple[Any, ...]]:
    """Some fields of each utterance, by columns where they are packed."""
    if isinstance(utterances, Packed):
        return utterances.each(*names)
    return (tuple(getattr(utterance, name) for name in names) for utterance in utterances)


def keys(utterances: Sequence[Utterance]) -> NDArray[np.int64]:
    """Hashes of corpus and id, shape (N,), the same within a process alone."""
    return np.fromiter(map(hash, each(utterances, "corpus", "id")), np.int64, len(utterances))


def doubled(utterances: Sequence[Utterance]) -> list[tuple[int, int]]:
    """Places of utterances whose corpus and id were there before, each with the place of the first one."""
    found = keys(utterances)
    values, counts = np.unique(found, return_counts=True)
    suspect = np.flatnonzero(np.isin(found, values[counts > 1])).tolist() if (counts > 1).any() else []
    seen: dict[tuple[str, str], int] = {}
    again = []
    for index in suspect:
        utterance = utterances[index]
        first = seen.setdefault((utterance.corpus, utterance.id), index)
        if first != index:
            again.append((index, first))
    return again


def _block(rows: Sequence[Utterance]) -> Any:
    """Records as columns; a field that none of them has is left out."""
    import pyarrow

    if not rows:
        return pyarrow.record_batch([], pyarrow.schema([]))
    fields, arrays = [], []
    for name, values in zip(FIELDS, zip(*map(_values_of, rows), strict=True), strict=True):
        if name in REQUIRED or values.count(DEFAULTS[name]) < len(values):
            array, how = _array(name, values)
            fields.append(pyarrow.field(name, array.type, metadata=how))
            arrays.append(array)
    return pyarrow.record_batch(arrays, pyarrow.schema(fields))


def _write(file: IO[bytes], block: Any) -> int:
    """Append a block; how many bytes it takes."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, block.schema) as stream:
        stream.write_batch(block)
    data = memoryview(sink.getvalue())
    left = data
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise InputError(
            f"{tempfile.gettempdir()}: {error.strerror}; the records of a training lie there: set TMPDIR to a folder "
            "with more room"
        ) from error
    return len(data)


def _array(name: str, values: Sequence[Any]) -> tuple[Any, dict[bytes, bytes] | None]:
    """A column, and whether its values are JSON, as are those that Arrow has no form for: texts beyond UTF-8."""
    import pyarrow

    array, how = None, None
    if name not in _OBJECTS:
        try:
            array = pyarrow.array(values, pyarrow.list_(pyarrow.int32()) if name == "units" else None)
        except (UnicodeEncodeError, OverflowError, pyarrow.ArrowException):
            array = None
    if array is None:
        # Equal labels of a large manifest are one object.
        distinct = {id(value): value for value in values}
        written = {place: None if value is None else json.dumps(value) for place, value in distinct.items()}
        array, how = pyarrow.array([written[id(value)] for value in values], pyarrow.string()), _JSON
    if pyarrow.types.is_string(array.type):
        coded = array.dictionary_encode()
        # Names come again and again; ids and paths do not.
        if 2 * len(coded.dictionary) <= len(array):
            array = coded
    return array, how


def _opened(mapped: Any, ends: Sequence[int]) -> list[Any]:
    import pyarrow

    whole = pyarrow.py_buffer(mapped)
    parts = [whole.slice(begin, end - begin) for begin, end in pairwise(ends)]
    return [pyarrow.ipc.open_stream(part).read_next_batch() for part in parts]


def _column(block: Any, name: str) -> Iterable[Any]:
    """A field's values; equal texts are one object."""
    import pyarrow

    index = block.schema.get_field_index(name)
    if index < 0:
        return repeat(DEFAULTS[name], block.num_rows)
    array, is_json = block.column(index), block.schema.field(index).metadata == _JSON
    if pyarrow.types.is_dictionary(array.type):
        distinct = array.dictionary.to_pylist()
        values = [*(map(json.loads, distinct) if is_json else distinct), None]
        return [values[code] for code in array.indices.fill_null(len(distinct)).to_numpy().tolist()]
    if pyarrow.types.is_floating(array.type) and not array.null_count:
        return array.to_numpy().tolist()
    values = array.to_pylist()
    return [None if value is None else json.loads(value) for value in values] if is_json else values


def _value(field: Any, scalar: Any) -> Any:
    value = scalar.as_py()
    return json.loads(value) if value is not None and field.metadata == _JSON else value
