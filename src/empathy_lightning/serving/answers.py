"""Answers over HTTP: whole ones and those that come as they are made; a client that leaves ends the work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from empathy_lightning.reply import Reply
from empathy_lightning.serving.answering import Answering, Event

Chunks = Callable[[AsyncIterator[Event]], AsyncIterator[bytes]]
"""Makes the bytes that are sent of the events of a question."""


class Answer(Response):
    """What comes of a question.

    Args:
        answering: The question; it ends with the response.
    """

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client leaves."""

        async def _watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        failed: list[Exception] = []
        async with self.answering, anyio.create_task_group() as tasks:
            tasks.start_soon(_watch)
            try:
                await self.send(scope, receive, send)
            except Exception as error:  # a group of tasks would wrap it
                failed.append(error)
            tasks.cancel_scope.cancel()
        if failed:
            raise failed[0]

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        raise NotImplementedError


class WholeAnswer(Answer):
    """A reply, when it is whole.

    Args:
        answering: The question.
        render: Makes the response of the reply.
    """

    def __init__(self, answering: Answering, render: Callable[[Reply], Response]) -> None:
        super().__init__(answering)
        self.render_reply = render

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the reply, and send it."""
        async for event in self.answering:
            if isinstance(event, Reply):
                await self.render_reply(event)(scope, receive, send)


class StreamedAnswer(Answer):
    """A reply as it comes; the status is told with the first of it.

    Args:
        answering: The question.
        chunks: Makes bytes of events.
        media_type: Of the whole.
    """

    def __init__(self, answering: Answering, chunks: Chunks, media_type: str) -> None:
        super().__init__(answering)
        self.chunks = chunks
        self.kind = media_type

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what comes as it comes."""
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", self.kind.encode()),
            (b"cache-control", b"no-store"),
            # Otherwise nginx collects the stream before it passes it on.
            (b"x-accel-buffering", b"no"),
        ]
        # Not before something came: a question that is refused has another status.
        start: dict[str, Any] | None = {"type": "http.response.start", "status": 200, "headers": headers}
        async for chunk in self.chunks(aiter(self.answering)):
            if start is not None:
                await send(start)
                start = None
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
