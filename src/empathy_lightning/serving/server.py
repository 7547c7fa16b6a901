"""The server as a process: its socket, and an end that lets replies end."""

from __future__ import annotations

import asyncio
import socket
from types import FrameType

import uvicorn

from empathy_lightning.errors import InputError
from empathy_lightning.serving.application import application
from empathy_lightning.serving.gate import Gate
from empathy_lightning.serving.service import Service

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_LARGEST_FRAME = 1 << 20


class Server(uvicorn.Server):
    """Serves a bot.

    Args:
        service: The bot, and how it is asked.
        token: That clients have to know; None for none.
        any_host: Whether the server may be called by any name, as behind a proxy; else by those of this machine only.
        page: Whether the page is served too.
        access_log: Whether each request is logged: its line and status, nothing that was said.
    """

    def __init__(
        self,
        service: Service,
        token: str | None = None,
        any_host: bool = False,
        page: bool = True,
        access_log: bool = False,
    ) -> None:
        hosts = frozenset[str]() if any_host else _LOCAL
        stall = service.limits.stall_seconds
        config = uvicorn.Config(
            Gate(application(service, page), token, hosts, stall),
            lifespan="off",
            log_level="info" if access_log else "warning",
            access_log=access_log,
            server_header=False,
            ws_max_size=_LARGEST_FRAME,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self.service = service
        self._ends: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more questions, and end when all replies have; at the second signal, at once."""
        if self._ends is not None:
            self.should_exit = self.force_exit = True
            return
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Begin to end, in the loop of the server."""
        self.service.engine.close()
        self._ends = self._ends or asyncio.create_task(self._end())

    async def _end(self) -> None:
        """Wait until every reply has come to whoever asked, as long as one may take."""
        self.service.ending.set()
        loop = asyncio.get_running_loop()
        until = loop.time() + self.service.limits.wait_seconds + self.service.limits.answer_seconds
        while self.service.metrics.open and loop.time() < until:
            await asyncio.sleep(0.05)
        self.should_exit = True


def listening(host: str, port: int, stall_seconds: float) -> socket.socket:
    """A socket that takes connections.

    Args:
        host: Name or address.
        port: 0 for any that is free.
        stall_seconds: The system ends a connection whose other side takes nothing for so long.

    Raises:
        InputError: If it cannot be had.
    """
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port {port} has to be 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_seconds * 1_000))
        taken.bind(address)
        taken.listen(256)
    except OSError as error:
        raise InputError(f"{host}:{port} cannot be had: {error}; give another --host or --port") from None
    return taken
