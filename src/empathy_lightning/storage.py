"""Files behind URLs: object storage, web servers, whatever fsspec opens; local paths need none of this.

What is asked for is read, as ranges of bytes, and nothing is kept on a local disk. What may pass by itself (a server
that breaks off, is busy or cannot be reached) is tried again a few times; what stays wrong is one line that names the
URL.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from empathy_lightning.errors import InputError

ATTEMPTS = 4
"""How often something is tried in all."""

PAUSE = 0.25
"""Seconds before the second try, twice as many before each further one."""

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, ValueError)
_FINAL_NAMES = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
_REFUSED = (401, 403)

Found = TypeVar("Found")


class StorageError(InputError):
    """Something behind a URL that cannot be used; the message names the URL and says why."""


def is_url(name: str) -> bool:
    """Whether a name is a URL of something elsewhere, rather than a local path.

    >>> is_url("s3://bucket/corpus"), is_url("/data/corpus"), is_url("file:///data/corpus")
    (True, False, False)
    """
    return "://" in name and not name.startswith("file://")


def local_path(name: str) -> str:
    """A local path without the ``file://`` that it may have been given with.

    >>> local_path("file:///data/corpus"), local_path("corpus")
    ('/data/corpus', 'corpus')
    """
    return name.removeprefix("file://")


def read(url: str, begin: int = 0, end: int | None = None) -> bytes:
    """The bytes of a file from one place to another, or to its end.

    Raises:
        StorageError: If they cannot be read.
    """

    def _read(system: Any, path: str) -> bytes:
        if end is None and begin == 0:
            return bytes(system.cat_file(path))
        return _exactly(system.cat_file(path, start=begin, end=end), begin, end)

    return _tried(url, _read)


def read_ranges(url: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of several ranges of a file, asked for at once where the server can do that.

    Raises:
        StorageError: If they cannot be read.
    """

    def _read(system: Any, path: str) -> list[bytes]:
        begins = [begin for begin, _ in ranges]
        ends = [end for _, end in ranges]
        found = system.cat_ranges([path] * len(ranges), begins, ends)
        return [_exactly(data, begin, end) for data, (begin, end) in zip(found, ranges, strict=True)]

    return _tried(url, _read) if ranges else []


def size_of(url: str) -> int:
    """Bytes of a file.

    Raises:
        StorageError: If there is none, or the server does not tell.
    """

    def _size(system: Any, path: str) -> int:
        size = system.size(path)
        if size is None:
            raise ValueError("the server does not tell its size")
        return int(size)

    return _tried(url, _size)


def open_unbuffered(url: str) -> Any:
    """An open file of which exactly what is asked for is read.

    Raises:
        StorageError: If it cannot be opened; a later read that fails raises what fsspec does.
    """
    return _tried(url, lambda system, path: system.open(path, "rb", cache_type="none"))


def exists(url: str) -> bool:
    """Whether there is such a file, or a folder with files below it.

    Raises:
        StorageError: If the server does not tell.
    """

    def _exists(system: Any, path: str) -> bool:
        # Another process may have written it since the folder was listed.
        system.invalidate_cache()
        try:
            system.info(path)
        except FileNotFoundError:
            return False
        return True

    return _tried(url, _exists)


def files_in(url: str, pattern: str) -> list[str]:
    """URLs of the files of a folder whose names fit a pattern, in order; none where there is no folder.

    Raises:
        StorageError: If the server cannot or will not list them.
    """

    def _list(system: Any, path: str) -> list[str]:
        # As in `exists`, what was listed before may be old.
        system.invalidate_cache()
        found = system.glob(f"{path.rstrip('/')}/{pattern}")
        return sorted(system.unstrip_protocol(name) for name in found)

    return _tried(url, _list)


def write(url: str, file: Path) -> None:
    """Put a local file there.

    Raises:
        StorageError: If it cannot be written.
    """
    if url.startswith(("http://", "https://")):
        raise StorageError(f"{url}: a web server is only read; give a folder, or a URL such as s3://BUCKET/FOLDER")
    _tried(url, lambda system, path: system.put_file(str(file), path))


def remove(url: str) -> None:
    """Take a file away.

    Raises:
        StorageError: If it cannot be.
    """
    _tried(url, lambda system, path: system.rm_file(path))


def _exactly(data: Any, begin: int, end: int | None) -> bytes:
    """The bytes of a range; servers that know no ranges send all, and some that break off send fewer."""
    if isinstance(data, Exception):
        raise data
    if end is None:
        return bytes(data)
    if len(data) > end - begin:
        data = data[begin:end]
    if len(data) != end - begin:
        raise OSError(f"{len(data)} bytes came of {end - begin}")
    return bytes(data)


def _tried(url: str, does: Callable[[Any, str], Found]) -> Found:
    """What an action on a file system and a path in it brings, at the first try that goes well."""
    pause = PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return does(*_place(url))
        except StorageError:
            raise
        # A file system may raise whatever its library does.
        except Exception as error:
            if attempt == ATTEMPTS or _is_final(error):
                raise StorageError(_told(url, error, attempt)) from error
        time.sleep(pause)
        pause *= 2
    raise AssertionError("unreachable")


def _place(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    # A chain of protocols, or a file of references, is a small program of its own.
    if "::" in url or url.startswith("reference://"):
        raise StorageError(f"{url}: chained URLs and references are not followed; give the URL of the file itself")
    scheme, _, rest = url.partition("://")
    system = _system(f"{scheme}://{rest.partition('/')[0]}", os.getpid())
    return system, system._strip_protocol(url)


@lru_cache(maxsize=32)
def _system(origin: str, process: int) -> Any:
    """The file system of all threads of a process; fsspec by itself makes one, and its connections, for each thread."""
    import fsspec

    return fsspec.core.url_to_fs(origin)[0]


def _is_final(error: Exception) -> bool:
    if isinstance(error, _FINAL) or type(error).__name__ in _FINAL_NAMES:
        return True
    return getattr(error, "status", None) in _REFUSED


def _told(url: str, error: Exception, attempts: int) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return f"{url}: {said} (pip install 'empathy_lightning[storage]' brings s3fs)"
    if type(error).__name__ in _FINAL_NAMES:
        return f"{url}: {said}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, FileNotFoundError):
        return f"{url}: not there ({said})"
    if isinstance(error, PermissionError) or getattr(error, "status", None) in _REFUSED:
        return f"{url}: access is denied ({said}); look at the credentials and the rights that they have"
    again = f", tried {attempts} times" if attempts > 1 else ""
    return f"{url}: {said}{again}"
