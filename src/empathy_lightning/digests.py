"""Digests: what files, folders, utterances and recordings were, so that something else is not taken for them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from empathy_lightning.files import file_of
from empathy_lightning.storage import is_url
from empathy_lightning.utterance import Utterance

_WHOLE, _BLOCK, _BLOCKS = 2**26, 2**20, 64
"""Files up to the first size are read whole; of larger weights, so many blocks of the second."""

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pth", ".pt")


def digest(path: str | Path) -> str:
    """SHA-256 of a file's content; of more than 64 MB of weights, of the size and 64 blocks of 1 MB, evenly in it."""
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE or path.suffix not in _WEIGHTS:
            return hashlib.file_digest(file, "sha256").hexdigest()
        blocks = hashlib.sha256(str(size).encode())
        for number in range(_BLOCKS):
            # The first block begins the file, the last one ends it.
            file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
            blocks.update(file.read(_BLOCK))
    return blocks.hexdigest()


def folder_digest(folder: str | Path) -> str:
    """SHA-256 over names and :func:`digest` of a model folder's weights, settings and vocabularies."""
    kinds = (*_WEIGHTS, ".json", ".model", ".jinja", ".tiktoken", ".txt")
    named = []
    for path in sorted(Path(folder).rglob("*")):
        is_claim = path.name.endswith("made_from.json")
        if path.suffix in kinds and path.is_file() and not is_claim:
            named.append((str(path.relative_to(folder)), digest(path)))
    return hashlib.sha256(repr(named).encode()).hexdigest()


def relative(path: str, home: str | Path) -> str:
    """A file's name as seen from a folder, however both were typed and wherever they were moved together.

    From a folder behind a URL, local files are seen as they are.
    """
    if is_url(path):
        return path
    full = os.path.realpath(path)
    return full if is_url(str(home)) else os.path.relpath(full, os.path.realpath(home))


def utterances_digest(utterances: Iterable[Utterance], home: str | Path) -> str:
    """SHA-256 over all fields, with the recordings named as seen from a folder."""
    read = hashlib.sha256()
    for u in utterances:
        values = u.to_dict()
        for name in ("path", "emotion_path", "response_path"):
            if name in values:
                values[name] = relative(values[name], home)
        read.update(json.dumps(values, sort_keys=True).encode())
    return read.hexdigest()


def recordings_digest(paths: Iterable[str], home: str | Path) -> str:
    """SHA-256 over name, size and time of the last change of each recording; one that is not there counts as such.

    Args:
        paths: Files, or parts of shards.
        home: Folder from which they are named.
    """
    # Recordings of terabytes are not read for it.
    found = hashlib.sha256()
    for path in dict.fromkeys(map(file_of, paths)):
        try:
            stat = os.stat(path)
            state: tuple[int, int] | None = (stat.st_size, stat.st_mtime_ns)
        except OSError:
            state = None
        found.update(repr((relative(path, home), state)).encode())
    return found.hexdigest()
