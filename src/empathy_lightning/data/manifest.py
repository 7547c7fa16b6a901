"""Our own manifests: one utterance a line as JSON, or a row as Parquet for corpora of millions."""

from __future__ import annotations

import io
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from empathy_lightning import storage
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.packed import Packed, doubled, packed
from empathy_lightning.data.rows import MOST, from_parquet, refuse, to_table
from empathy_lightning.faults import Faults
from empathy_lightning.field_rules import FIELDS
from empathy_lightning.files import whole
from empathy_lightning.records import checked, columns_of, unknown_field
from empathy_lightning.utterance import Utterance

PATHS = ("path", "emotion_path", "response_path")


class Manifest(Corpus):
    """Utterances from a manifest; audio paths are relative to the manifest's folder.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file, or the URL of one.
    """

    name = "manifest"

    def __init__(self, path: str) -> None:
        self.path = str(path)
        super().__init__(_folder_of(self.path))

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the manifest."""
        yield from self.utterances()

    def utterances(self) -> Packed:
        """Read the manifest, a part after the other.

        Raises:
            CorpusError: If the file is missing or a line is not an utterance.
        """
        numbers = array("L")
        found = packed(_records(self.path, numbers))
        refuse_doubled(found, self.path, numbers)
        return found


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a manifest; see :mod:`empathy_lightning.records` for what a record may hold.

    Args:
        path: File or URL.

    Raises:
        CorpusError: If the file is missing or a record is no utterance; file, line or row and field are named.
        StorageError: If it lies elsewhere and cannot be read.
    """
    numbers = array("L")
    utterances = list(_records(str(path), numbers))
    refuse_doubled(utterances, str(path), numbers)
    return utterances


def _records(path: str, numbers: array[int]) -> Iterator[Utterance]:
    """The records of a manifest with their paths; the lines or rows that they stand in are added to ``numbers``."""
    name = storage.local_path(path)
    source: Path | bytes
    if storage.is_url(name):
        source = storage.read(name)
    else:
        source = Path(name)
        if source.is_dir():
            raise CorpusError(f"{path} is a folder: give the manifest in it, a .jsonl or .parquet file")
        if not source.is_file():
            raise CorpusError(f"no manifest at {path}; write one with `empathy-lightning prepare` or `corpora export`")
    read = _read_parquet if name.endswith(".parquet") else _read_lines
    home = f"{_folder_of(name)}/"
    for utterance in read(source, name, numbers):
        for field in PATHS:
            value = getattr(utterance, field)
            if value is not None:
                setattr(utterance, field, absolute(home, value))
        yield utterance


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0] if storage.is_url(name) else str(Path(name).parent)


def absolute(home: str, name: str) -> str:
    """A path of a manifest as seen from anywhere; ``home`` is the manifest's folder and ends in a slash."""
    return name if name.startswith("/") or "://" in name else home + name


def _read_lines(source: Path | bytes, where: str, numbers: array[int]) -> Iterator[Utterance]:
    faults = Faults()
    for lines, rows in _parsed(source, faults):
        names: set[str] = set()
        for row in rows:
            names.update(row)
        columns = {name: [row.get(name) for row in rows] for name in names & set(FIELDS)}
        for name in names - set(FIELDS):
            holders = [line for line, row in zip(lines, rows, strict=True) if name in row]
            for line in holders:
                faults.add(line, unknown_field(name))
        in_rows = Faults()
        yield from checked(columns, len(rows), in_rows)
        faults.join(in_rows, lines)
        numbers.extend(lines)
    refuse(faults, where, "line")


def _parsed(source: Path | bytes, faults: Faults) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Objects of the lines that are not blank, with the numbers of their lines, so many at a time."""
    # Not all at once, since they are held beside the records that are made of them.
    numbers: list[int] = []
    rows: list[dict[str, Any]] = []
    opened: IO[bytes] = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    # Some editors put a byte order mark before the first line.
    with io.TextIOWrapper(opened, encoding="utf-8-sig", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                faults.add(number, f"not JSON: {error}")
                continue
            if not isinstance(row, dict):
                faults.add(number, 'not a JSON object, such as {"id": ...}')
                continue
            numbers.append(number)
            rows.append(row)
            if len(rows) == MOST:
                yield numbers, rows
                numbers, rows = [], []
    yield numbers, rows


def refuse_doubled(utterances: Sequence[Utterance], where: str, numbers: Sequence[int], unit: str = "") -> None:
    """Refuse a second utterance with the corpus and id of a first one.

    Args:
        utterances: Of one file.
        where: Its name.
        numbers: Line or row of each.
        unit: What these count; by default what the file has.

    Raises:
        CorpusError: If there is one; both are named.
    """
    unit = unit or ("row" if where.endswith(".parquet") else "line")
    faults = Faults()
    for index, first in doubled(utterances):
        utterance = utterances[index]
        before = f"in {unit} {numbers[first]}"
        faults.add(numbers[index], f"id {utterance.id!r} of corpus {utterance.corpus!r} was there before, {before}")
    refuse(faults, where, unit)


def _read_parquet(source: Path | bytes, where: str, numbers: array[int]) -> Iterator[Utterance]:
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.BufferReader(source) if isinstance(source, bytes) else source
    try:
        opened = pyarrow.parquet.ParquetFile(file, memory_map=True)
        numbers.extend(range(1, opened.metadata.num_rows + 1))
        yield from from_parquet(opened, where)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{where} is not a Parquet file, or a damaged one: {' '.join(str(error).split())}") from None


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest under a temporary name, then rename it.

    Args:
        path: Where to write, ``.jsonl`` or ``.parquet``; audio paths below its folder are stored relative to it.
        utterances: What to write.

    Raises:
        InputError: If a record is not as it may be read again, or it cannot be written, because the disk is full or
            a text is not UTF-8; nothing is left then.
    """
    path = Path(path)
    rows = valid(utterances, str(path))
    with whole(path) as partial:
        _write(partial, (stored(path, utterance) for utterance in rows))


def valid(utterances: Iterable[Utterance], where: str) -> list[Utterance]:
    """Records that were built in Python, as they would be read again.

    Args:
        utterances: The records.
        where: Names their source in errors.

    Raises:
        CorpusError: If one of them is no utterance; its place and field are named.
    """
    given = list(utterances)
    faults = Faults()
    found = checked(columns_of(given), len(given), faults, first=1)
    refuse(faults, where, "record")
    refuse_doubled(found, where, range(1, len(found) + 1), "record")
    return found


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(to_table(Utterance(**row) for row in rows), path)
    else:
        with path.open("w", encoding="utf-8", errors="surrogateescape") as lines:
            lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def stored(manifest: str | Path, utterance: Utterance) -> dict[str, Any]:
    """A record as a manifest holds it: paths below its folder are relative to it, others absolute."""
    values = utterance.to_dict()
    home = _folder_of(str(manifest))
    for key in PATHS:
        if key in values:
            values[key] = _seen_from(home, values[key])
    return values


def _seen_from(home: str, name: str) -> str:
    if "://" in name:
        return name.removeprefix(f"{home}/")
    full = Path(name).absolute()
    if storage.is_url(home):
        return str(full)
    # Links are not followed: what a linked file is called elsewhere is not its name.
    folder = Path(home).absolute()
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)
