"""What a client sends, read into memory within limits; nothing is written to a disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import anyio
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.serving.limits import Limits, Refused
from empathy_lightning.serving.sound import heard_file

_decoders = anyio.CapacityLimiter(2)
"""Threads that decode: few, since the bot wants the processor too."""


class _InMemory(MultiPartParser):
    """Spools no file to a disk: the size of all was limited before."""

    spool_max_size = 1 << 40


async def body_of(request: Request, limits: Limits) -> bytes:
    """All bytes that a client sends.

    Raises:
        Refused: If they are too many, or come too slowly.
    """
    return b"".join([part async for part in _parts(request, limits)])


async def _parts(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    too_large = Refused(413, f"at most {limits.megabytes:g} MB can be sent")
    promised = request.headers.get("content-length", "0")
    if promised.isdigit() and int(promised) > limits.bytes:
        raise too_large
    size = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(limits.stall_seconds):
                part = await anext(stream, None)
        except TimeoutError:
            raise Refused(408, f"nothing came for {limits.stall_seconds:g} s") from None
        except ClientDisconnect:
            raise Refused(400, "the connection ended before the request") from None
        if part is None:
            return
        size += len(part)
        if size > limits.bytes:
            raise too_large
        yield part


async def json_of(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object that a client sends.

    Raises:
        Refused: As :func:`body_of`.
        InputError: If it is none.
    """
    data = await body_of(request, limits)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("the request is no JSON") from None
    if not isinstance(value, dict):
        raise InputError("the request is no JSON object")
    return value


async def file_and_fields(request: Request, limits: Limits) -> tuple[bytes, dict[str, str]]:
    """The file that a client sends, alone or in a form, and what it says beside it.

    Raises:
        Refused: As :func:`body_of`.
        InputError: If there is no file, or not one.
    """
    fields = dict(request.query_params)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await body_of(request, limits), fields
    try:
        form = await _InMemory(request.headers, _parts(request, limits), max_files=1, max_fields=20).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InputError(f"this is no form: {error}") from None
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InputError("the form has no file: send the recording as its field `file`")
    fields.update({name: value for name, value in form.items() if isinstance(value, str)})
    return await file.read(), fields


async def decoded(data: bytes, limits: Limits, name: str = "the recording") -> Tensor:
    """A file in memory as a waveform at 16 kHz, shape (T,), decoded in another thread.

    Raises:
        AudioError: If it cannot be used.
    """
    return await anyio.to_thread.run_sync(partial(heard_file, data, limits.seconds, name), limiter=_decoders)
