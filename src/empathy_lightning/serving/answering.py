"""What comes of one question, for a coroutine: it waits in a queue until whoever asked takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from types import TracebackType

from empathy_lightning.errors import InputError
from empathy_lightning.reply import Reply
from empathy_lightning.serving.engine import Engine, Heard, Question, Told
from empathy_lightning.serving.limits import Refused
from empathy_lightning.serving.metrics import Metrics
from empathy_lightning.streaming import AudioBlock, TextPiece

Event = Heard | TextPiece | AudioBlock | Reply


class Answering:
    """Asks a question; an asynchronous iterator over what comes of it, and a context that ends the work.

    Args:
        engine: Whom to ask.
        metrics: Where it counts.
        question: What to ask.

    Raises:
        Refused: If the engine takes no more.
    """

    def __init__(self, engine: Engine, metrics: Metrics, question: Question) -> None:
        self._engine = engine
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._began = monotonic()
        self._measured: set[type] = set()
        self._left = False
        self._asked = engine.ask(question, self._tell)
        metrics.open += 1
        self._open = True

    async def __aenter__(self) -> Answering:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the work, if it has not ended."""
        self.close()

    def close(self) -> None:
        """End the work, if it has not ended."""
        if self._open:
            self._open = False
            self._metrics.open -= 1
        self.leave()

    def leave(self) -> None:
        """End the reply here: of what was made, nothing comes any more but its end."""
        self._left = True
        self._engine.leave(self._asked)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """What was heard, then text and sound as they come, then the reply.

        Raises:
            Refused: If it waited too long, or cannot be answered.
        """
        limits = self._engine.limits
        what = await self._first(limits.wait_seconds)
        ends = self._loop.time() + limits.answer_seconds
        while True:
            if isinstance(what, Exception):
                raise self._failure(what)
            if isinstance(what, Reply) or not self._left:
                self._measure(what)
                yield what
            if isinstance(what, Reply):
                return
            what = await self._next(ends)

    async def _next(self, ends: float) -> Told:
        try:
            async with asyncio.timeout_at(ends):
                return await self._told.get()
        except TimeoutError:
            return await self._cut(self._engine.limits.answer_seconds)

    async def _first(self, seconds: float) -> Told:
        try:
            async with asyncio.timeout(seconds):
                return await self._told.get()
        except TimeoutError:
            self.leave()
            raise Refused(503, f"nobody could answer within {seconds:g} s", self._engine.retry_after) from None

    async def _cut(self, seconds: float) -> Told:
        """The end of a reply that takes too long."""
        self.leave()
        while not isinstance(what := await self._told.get(), Reply | Exception):
            pass
        if isinstance(what, Reply):
            what.fault = f"it was cut after {seconds:g} s"
        return what

    def _tell(self, what: Told) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._told.put_nowait, what)

    def _measure(self, event: Event) -> None:
        if type(event) not in self._measured:
            self._measured.add(type(event))
            self._metrics.observe(event, monotonic() - self._began)

    def _failure(self, error: Exception) -> Refused:
        """What the client is told of an error; one of the program itself is shown in the log."""
        self._metrics.count("failed")
        if isinstance(error, InputError):
            return Refused(400, " ".join(str(error).split()))
        self._metrics.log.error("a question could not be answered", exc_info=error)
        return Refused(500, "this could not be answered; the server's log says why")
