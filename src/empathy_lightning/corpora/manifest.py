"""Our own manifests: one utterance a line as JSON, or a row as Parquet for corpora of millions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import repeat
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.files import whole
from empathy_lightning.utterance import RATINGS, Utterance

COLUMNS = tuple(f.name for f in fields(Utterance))
PATHS = ("path", "emotion_path", "response_path")


class Manifest(Corpus):
    """Utterances from a manifest; audio paths are relative to the manifest's folder.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file.
    """

    name = "manifest"

    def __init__(self, path: str) -> None:
        super().__init__(str(Path(path).parent))
        self.path = Path(path)

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the manifest."""
        yield from read_manifest(self.path)

    def utterances(self) -> list[Utterance]:
        """Read the manifest.

        Raises:
            CorpusError: If the file is missing or a line is not an utterance.
        """
        return read_manifest(self.path)


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest.

    Raises:
        CorpusError: If the file is missing or a line is not an utterance; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"no manifest at {path}; write one with `empathy-lightning prepare` or `corpora export`")
    utterances = _read_parquet(path) if path.suffix == ".parquet" else _read_lines(path)
    home = f"{path.parent}/"
    for utterance in utterances:
        for name in PATHS:
            value = getattr(utterance, name)
            if value is not None:
                setattr(utterance, name, _absolute(home, value))
    return utterances


def _absolute(home: str, name: str) -> str:
    return name if name.startswith("/") or "://" in name else home + name


def _read_lines(path: Path) -> list[Utterance]:
    utterances = []
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            try:
                utterances.append(Utterance.from_dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise CorpusError(f"{path}, line {number}: {error}") from None
    return utterances


def _read_parquet(path: Path) -> list[Utterance]:
    import pyarrow
    import pyarrow.parquet

    try:
        return from_parquet(pyarrow.parquet.ParquetFile(path, memory_map=True), str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} is not a Parquet file, or a damaged one: {' '.join(str(error).split())}") from None


def from_parquet(file: Any, where: str) -> list[Utterance]:
    """Utterances from an open Parquet file, one column after the other, so that little is held twice.

    Args:
        file: A ``pyarrow.parquet.ParquetFile``; columns that are not an utterance's are ignored.
        where: Names it in errors.

    Raises:
        CorpusError: If ids, corpora or paths are missing, a rating is outside 0..1 or a prompt has no speech slot.
    """
    import pyarrow.compute as compute

    present = set(file.schema_arrow.names)
    missing = {"id", "corpus", "path"} - present
    if missing:
        raise CorpusError(f"{where} has no column {', '.join(sorted(missing))}")
    columns: list[Iterable[Any]] = []
    defaults = Utterance("", "", "")
    for name in COLUMNS:
        default = getattr(defaults, name)
        if name not in present:
            columns.append(repeat(default))
            continue
        column = file.read([name])[name]
        if name in RATINGS:
            bounds = compute.min_max(column).as_py()
            if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] <= 1:
                raise CorpusError(f"{where}: {name} lies outside 0..1")
        columns.append(_values(column, default))
    utterances = list(map(Utterance, *columns))
    for utterance in utterances:
        if utterance.prompt is not None or utterance.system is not None:
            try:
                utterance.validate()
            except ValueError as error:
                raise CorpusError(f"{where}: {error}") from None
    return utterances


def _values(column: Any, default: Any) -> Iterable[Any]:
    """A column's values; equal texts are one object, which is what makes millions of rows fit in memory."""
    import pyarrow.types as types

    if column.null_count == len(column):
        return repeat(default, len(column))
    if not types.is_string(column.type) and not types.is_large_string(column.type):
        return [default if value is None else value for value in column.to_pylist()]
    encoded = column.combine_chunks().dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    values = [*(map(json.loads, distinct) if isinstance(default, dict) else distinct), default]
    return [values[index] for index in encoded.indices.fill_null(len(distinct)).to_numpy().tolist()]


def to_table(utterances: Iterable[Utterance]) -> Any:
    """An Arrow table with one column a field; raw labels and votes are JSON."""
    import pyarrow

    rows = list(utterances)
    text, number = pyarrow.string(), pyarrow.float64()
    numbers = ("start", "end", "duration", "emotion_start", "emotion_end", *RATINGS)
    kinds = dict.fromkeys(COLUMNS, text) | dict.fromkeys(numbers, number)
    kinds |= {"units": pyarrow.list_(pyarrow.int32()), "response_cut": pyarrow.bool_()}
    columns = {name: [getattr(u, name) for u in rows] for name in COLUMNS}
    for name in ("raw_labels", "emotion_votes"):
        columns[name] = [json.dumps(v, ensure_ascii=False) if (v := getattr(u, name)) else None for u in rows]
    return pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest under a temporary name, then rename it.

    Args:
        path: Where to write, ``.jsonl`` or ``.parquet``; audio paths below its folder are stored relative to it.
        utterances: What to write.

    Raises:
        InputError: If it cannot be written, because the disk is full or a text is not UTF-8; nothing is left then.
    """
    path = Path(path)
    with whole(path) as partial:
        _write(partial, (_stored(path, utterance) for utterance in utterances))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(to_table(Utterance(**row) for row in rows), path)
    else:
        with path.open("w", encoding="utf-8", errors="surrogateescape") as lines:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _stored(manifest: Path, utterance: Utterance) -> dict[str, Any]:
    values = utterance.to_dict()
    for key in PATHS:
        if key in values and "://" not in values[key]:
            full, home = Path(values[key]).resolve(), manifest.parent.resolve()
            values[key] = str(full.relative_to(home)) if full.is_relative_to(home) else str(full)
    return values
