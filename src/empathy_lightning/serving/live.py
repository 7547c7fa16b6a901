"""``/v1/live``: a conversation over a WebSocket; sound in, text and sound out as they come, barge-in at any time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.errors import InputError
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.reply import Reply
from empathy_lightning.serving import wire
from empathy_lightning.serving.answering import Answering
from empathy_lightning.serving.engine import Heard
from empathy_lightning.serving.gate import SUBPROTOCOL
from empathy_lightning.serving.limits import Refused
from empathy_lightning.serving.opus import OpusDecoder
from empathy_lightning.serving.playing import Playing
from empathy_lightning.serving.service import Service, options
from empathy_lightning.serving.sound import RATES, heard_samples, pcm
from empathy_lightning.serving.voice_activity import DETECTORS, Detector, Utterances, detectors
from empathy_lightning.streaming import AudioBlock

_IDLE = 600.0
"""Seconds without a message after which a conversation is ended."""

_GOING_AWAY, _TRY_AGAIN = 1001, 1013


async def live(socket: WebSocket) -> None:
    """Hold a conversation."""
    service: Service = socket.app.state.service
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    if service.conversations.locked() or service.engine.closed:
        await socket.close(_TRY_AGAIN, "too many conversations, or about to end: try again later")
        return
    async with service.conversations:
        service.metrics.conversations.inc()
        try:
            await Conversation(socket, service).hold()
        finally:
            service.metrics.conversations.dec()


class Conversation:
    """One client, its history and its settings; all of it ends with the connection.

    Args:
        socket: Accepted.
        service: Answers.
    """

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.socket = socket
        self.service = service
        self.history: list[Turn] = []
        self.chosen: dict[str, Any] = {}
        self.sample_rate = 16_000
        self.turn = 0
        self._spoken = bytearray()
        self._format = "pcm16"
        self._activity: Any = False
        self._opus: OpusDecoder | None = None
        self._utterances: Utterances | None = None
        self._task: asyncio.Task[None] | None = None
        self._answering: Answering | None = None
        self._playing = Playing()
        self._heard_until: float | None = None

    async def hold(self) -> None:
        """Hear and answer until the client leaves, or the server ends."""
        ending = asyncio.create_task(self._end_with_the_server())
        try:
            await self._send("ready", **self._facts())
            while True:
                async with asyncio.timeout(_IDLE):
                    message = await self.socket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                await self._take(message)
        except TimeoutError:
            with suppress(RuntimeError, WebSocketDisconnect):
                await self.socket.close(_GOING_AWAY, "nothing was said for a long time")
        except (WebSocketDisconnect, RuntimeError):
            pass  # gone while something was sent
        finally:
            ending.cancel()
            if self._answering is not None:
                self._answering.leave()
            if self._task is not None:
                self._task.cancel()

    def _facts(self) -> dict[str, Any]:
        bot, limits = self.service.bot, self.service.limits
        rate = self.service.sample_rate
        told = {"name": self.service.name, "emotions": bot.emotions, "sample_rate": rate, "seconds": limits.seconds}
        return told | {"voice_activity": detectors()}

    async def _end_with_the_server(self) -> None:
        await self.service.ending.wait()
        if self._task is not None:
            await asyncio.wait([self._task])
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.socket.close(1012, "the server ends")

    async def _take(self, message: Mapping[str, Any]) -> None:
        """A message of the client's: sound, or what to do."""
        try:
            if message.get("bytes") is not None:
                await self._hear(message["bytes"])
            else:
                await self._do(message.get("text") or "")
        except InputError as error:
            await self._send("error", status=400, message=" ".join(str(error).split()))

    async def _do(self, text: str) -> None:
        try:
            wanted = json.loads(text)
            kind = wanted.pop("type")
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            raise InputError("a message is sound, or a JSON object with a type") from None
        if kind == "settings":
            await self._choose(wanted)
        elif kind == "commit":
            said, self._spoken = bytes(self._spoken), bytearray()
            await self._ask(said)
        elif kind == "interrupt":
            await self._interrupt(wanted.get("played"))
        elif kind == "forget":
            await self._interrupt(None)
            self.history.clear()
        else:
            raise InputError("the type is one of settings, commit, interrupt, forget")

    async def _choose(self, wanted: dict[str, Any]) -> None:
        format_ = _one_of("format", ("pcm16", "opus"), wanted.pop("format", self._format))
        rate = wanted.pop("sample_rate", self.sample_rate)
        if not isinstance(rate, int) or rate not in RATES:
            raise InputError(f"sample_rate has to be {RATES[0]} to {RATES[-1]} Hz")
        if format_ == "opus":
            rate = SAMPLE_RATE  # that of what is unpacked
        activity = wanted.pop("voice_activity", self._activity)
        chosen = options(wanted)
        opus = OpusDecoder() if format_ == "opus" else None
        # A network takes a moment to load, in which others are answered.
        detector = await anyio.to_thread.run_sync(_detector, activity, rate)
        self.chosen, self.sample_rate, self._format, self._activity = chosen, rate, format_, activity
        self._opus = opus
        self._utterances = None if detector is None else Utterances(rate, self.service.limits.seconds, detector)
        self._spoken.clear()

    async def _hear(self, data: bytes) -> None:
        if self._opus is not None:
            data = self._opus.push(data)
        if self._utterances is None:
            self._spoken += data
            # Two bytes a sample.
            if len(self._spoken) > 2 * self.sample_rate * self.service.limits.seconds:
                self._spoken.clear()
                raise InputError(f"at most {self.service.limits.seconds:g} s of speech can be answered")
            return
        events = await anyio.to_thread.run_sync(list, self._utterances.push(data))
        for said in events:
            if said is None:
                await self._send("speech_began")
                await self._interrupt(None)
            else:
                await self._send("speech_ended")
                await self._ask(said)

    async def _interrupt(self, played: Any) -> None:
        """End the reply, as far as it was heard."""
        played = float(played) if isinstance(played, int | float) and played >= 0 else None
        if self._task is not None and not self._task.done():
            self._heard_until = played
            if self._answering is not None:
                self._answering.leave()
            # What follows finds the history with this reply in it, as far as it was heard.
            await asyncio.wait([self._task])
        elif self._playing.audible and self.history:
            said = self._playing.said(self.history[-1].reply, played)
            self.history[-1] = replace(self.history[-1], reply=said)
            await self._send("interrupted", turn=self.turn, said=said)
        self._playing = Playing()

    async def _ask(self, said: bytes) -> None:
        if self._task is not None and not self._task.done():
            await self._interrupt(None)
        waveform = await anyio.to_thread.run_sync(partial(heard_samples, said, self.sample_rate, "what was said"))
        self.turn += 1
        self._heard_until = None
        self._playing = Playing()
        question = self.service.question(waveform, self.chosen, list(self.history))
        try:
            self._answering = self.service.ask(question)
        except Refused as refused:
            await self._refused(refused)
            return
        self._task = asyncio.create_task(self._reply(self._answering))

    async def _reply(self, answering: Answering) -> None:
        """Send what comes of a question."""
        heard = False
        async with answering:
            try:
                async for event in answering:
                    heard = heard or isinstance(event, Heard)
                    if isinstance(event, AudioBlock):
                        self._playing.add(event)
                        await self.socket.send_bytes(pcm(event.waveform))
                    elif isinstance(event, Reply):
                        await self._close(event, heard)
                    else:
                        told = wire.event_of(event)
                        await self._send(told.pop("type"), turn=self.turn, **told)
            except Refused as refused:
                await self._refused(refused)
            except (RuntimeError, WebSocketDisconnect):
                answering.leave()  # the client is gone

    async def _close(self, reply: Reply, heard: bool) -> None:
        """Put a reply into the history, as far as it was heard, and send its end."""
        turn = reply.turn
        if reply.interrupted and self.service.sample_rate is not None and self.chosen.get("aloud", True):
            turn = replace(turn, reply=self._playing.said(reply.text, self._heard_until))
        if heard:
            self.history = [*self.history, turn][-self.service.limits.turns :]
        told = wire.said(reply) | {"said": turn.reply}
        kind = "interrupted" if reply.interrupted else "reply"
        await self._send(kind, turn=self.turn, **told)

    async def _refused(self, refused: Refused) -> None:
        told = {"status": refused.status, "retry_after": refused.retry_after, "message": str(refused)}
        await self._send("error", turn=self.turn, **told)

    async def _send(self, kind: str, **what: Any) -> None:
        await self.socket.send_text(json.dumps({"type": kind, **what}, ensure_ascii=False, allow_nan=False))


def _detector(activity: Any, rate: int) -> Detector | None:
    """What finds speech; None where the client says itself when it is whole."""
    if activity is False or activity is None:
        return None
    name = "energy" if activity is True else _one_of("voice_activity", list(DETECTORS), activity)
    return DETECTORS[name](rate)


def _one_of(name: str, choices: Sequence[str], value: Any) -> str:
    if value not in choices:
        raise InputError(f"{name} has to be one of {', '.join(choices)}")
    return str(value)
