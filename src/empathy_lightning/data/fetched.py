"""Manifests behind URLs, for commands that read a file of this machine."""

from __future__ import annotations

import hashlib
import tempfile
from functools import cache
from pathlib import Path

from empathy_lightning import storage
from empathy_lightning.data.manifest import read_manifest, write_manifest


def local_manifest(name: str) -> Path:
    """A manifest as a file of this machine.

    Args:
        name: A file, which is given back, or the URL of a manifest, or of a ``.txt`` file with a text a line.

    Returns:
        The file; of what lies behind a URL a copy that is gone when the process ends. Its recordings stay where they
        are.

    Raises:
        StorageError: If it cannot be read.
        CorpusError: If it is no manifest.
    """
    local = storage.local_path(name)
    if not storage.is_url(local):
        return Path(local)
    place = Path(_folder().name) / hashlib.sha256(name.encode()).hexdigest()[:16]
    copy = place / name.rpartition("/")[2]
    if copy.suffix == ".txt":
        place.mkdir(exist_ok=True)
        copy.write_bytes(storage.read(name))
    else:
        write_manifest(copy, read_manifest(name))
    return copy


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="empathy-")
