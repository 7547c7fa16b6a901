"""Who comes in: the token, the pages of other sites, and a client that takes nothing any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SUBPROTOCOL = "empathy"
"""Of live conversations; a browser, which can set no header there, offers ``bearer.TOKEN`` beside it."""

_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Stalled(OSError):
    """A client takes nothing: as if it were gone."""


class Gate:
    """Stands before the application.

    Args:
        app: The application.
        token: Who asks has to know it; None asks for none.
        hosts: Names under which the server may be called; empty for any. A page elsewhere whose name was made to
            point here cannot use it then.
        stall_seconds: A client that takes nothing for so long is left.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: frozenset[str], stall_seconds: float) -> None:
        self.app = app
        self.token = token
        self.hosts = hosts
        self.stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            # Of a client that stalls the connection is closed, without a word that it would not read.
            with suppress(_Stalled):
                await self.app(scope, receive, self._watched(send))
        elif scope["type"] == "http":
            status, message = refusal
            headers = {"www-authenticate": "Bearer"} if status == 401 else None
            await JSONResponse({"error": {"message": message}}, status, headers)(scope, receive, send)
        else:
            # Before it is accepted, this is an answer of 403.
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason; None for who may come in."""
        host = headers.get("host", "")
        if self.hosts and (urlsplit(f"//{host}").hostname or "") not in self.hosts:
            return 421, "the server does not go by this name: start it with --host, or behind a proxy with --token"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "pages of other sites are not answered"
        if self.token is not None and scope["path"].startswith(("/v1/", "/metrics")):
            given = _given(headers)
            # In a time that does not tell how much of it is right.
            if not compare_digest(given.encode(), self.token.encode()):
                return 401, "give the server's token: Authorization: Bearer TOKEN"
        return None

    def _watched(self, send: Send) -> Send:
        async def _send(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *added]
            try:
                async with asyncio.timeout(self.stall_seconds):
                    await send(message)
            except TimeoutError:
                raise _Stalled from None

        return _send


def _given(headers: Headers) -> str:
    """The token that a client gives; empty where it gives none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    for offered in headers.get("sec-websocket-protocol", "").split(","):
        name, _, token = offered.strip().partition(".")
        if name == "bearer":
            return token
    return ""
