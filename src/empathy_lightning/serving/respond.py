"""``POST /v1/respond``: a recording in; JSON, a WAV file, or a stream of text and sound out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from secrets import token_hex
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empathy_lightning.reply import Reply
from empathy_lightning.serving import wire
from empathy_lightning.serving.answering import Event
from empathy_lightning.serving.answers import Answer, StreamedAnswer, WholeAnswer
from empathy_lightning.serving.limits import Refused
from empathy_lightning.serving.service import Service, options
from empathy_lightning.serving.sound import pcm
from empathy_lightning.serving.uploads import decoded, file_and_fields
from empathy_lightning.streaming import AudioBlock

_FORMS = ("application/json", "audio/wav", "application/x-ndjson", "multipart/mixed")


async def respond(request: Request) -> Answer:
    """Answer a recording in the form that the Accept header asks for."""
    service: Service = request.app.state.service
    form = _form(request.headers.get("accept", "*/*"))
    with service.taking():
        data, fields = await file_and_fields(request, service.limits)
        chosen = options(fields)
        waveform = await decoded(data, service.limits)
    if form == "audio/wav":
        if service.sample_rate is None:
            raise Refused(406, "this bot has no voice: ask for application/json")
        chosen["aloud"] = True
    answering = service.ask(service.question(waveform, chosen))
    if form == "application/json":
        return WholeAnswer(answering, _json)
    if form == "audio/wav":
        return WholeAnswer(answering, _wave)
    if form == "application/x-ndjson":
        return StreamedAnswer(answering, _lines, form)
    boundary = token_hex(16)
    return StreamedAnswer(answering, _Parts(boundary), f"multipart/mixed; boundary={boundary}")


def _form(accept: str) -> str:
    """The first of the client's media types that there is."""
    for wanted in accept.split(","):
        kind = wanted.partition(";")[0].strip().lower()
        if kind in ("*/*", "application/*", ""):
            return _FORMS[0]
        if kind == "audio/*":
            return "audio/wav"
        if kind in _FORMS:
            return kind
    raise Refused(406, f"there is {', '.join(_FORMS)}")


def _json(reply: Reply) -> Response:
    return JSONResponse(wire.whole(reply), headers={"cache-control": "no-store"})


def _wave(reply: Reply) -> Response:
    if reply.waveform is None:
        raise Refused(500, reply.fault or "the reply has no sound")
    headers = {"cache-control": "no-store", "x-reply-text": quote(reply.text), "x-emotion": quote(reply.emotion or "")}
    return Response(wire.spoken(reply), media_type="audio/wav", headers=headers)


async def _lines(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    async for event in events:
        yield wire.line(wire.event_of(event))


class _Parts:
    """Events as parts of a multipart message: JSON, and blocks of sound as they are.

    Args:
        boundary: Between the parts.
    """

    def __init__(self, boundary: str) -> None:
        self.boundary = boundary

    async def __call__(self, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """The parts, and the end."""
        async for event in events:
            kind, content = "application/json", wire.line(wire.event_of(event))
            if isinstance(event, AudioBlock):
                # L16 of RFC 2586 has the high byte first.
                kind, content = f"audio/L16; rate={event.sample_rate}; channels=1", _swapped(pcm(event.waveform))
            head = f"--{self.boundary}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
            yield head.encode() + content + b"\r\n"
        yield f"--{self.boundary}--\r\n".encode()


def _swapped(samples: bytes) -> bytes:
    swapped = bytearray(samples)
    swapped[::2], swapped[1::2] = samples[1::2], samples[::2]
    return bytes(swapped)
