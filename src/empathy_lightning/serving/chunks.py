"""A completion as it comes, in server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from empathy_lightning.reply import Reply
from empathy_lightning.serving import wire
from empathy_lightning.serving.answering import Event
from empathy_lightning.serving.engine import Heard
from empathy_lightning.serving.sound import PCM16_RATE, StreamedRate, pcm
from empathy_lightning.streaming import AudioBlock, TextPiece


class CompletionChunks:
    """Makes chunks of events.

    Args:
        head: What stands in each.
        form: Of the sound; None where only text is wanted.
    """

    def __init__(self, head: dict[str, Any], form: str | None) -> None:
        self.head = head
        self.form = form
        self._rate: StreamedRate | None = None

    async def __call__(self, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
        """Chunks, and the end."""
        async for event in events:
            if isinstance(event, Heard):
                # Where sound is wanted, OpenAI's chunks have the words as its transcript, and no content.
                content = "" if self.form is None else None
                yield self._chunk({"role": "assistant", "content": content}, heard=event.reply)
            elif isinstance(event, TextPiece):
                delta = {"content": event.text} if self.form is None else self._audio(transcript=event.text)
                yield self._chunk(delta)
            elif isinstance(event, AudioBlock):
                self._rate = self._rate or StreamedRate(event.sample_rate, PCM16_RATE)
                yield self._sound(self._rate.push(event.waveform))
            else:
                if self._rate is not None:
                    yield self._sound(self._rate.end())
                yield self._chunk({}, ended=event)
        yield b"data: [DONE]\n\n"

    def _sound(self, waveform: Any) -> bytes:
        return self._chunk(self._audio(data=wire.base64(pcm(waveform)))) if len(waveform) else b""

    def _audio(self, **what: str) -> dict[str, Any]:
        return {"audio": {"id": f"audio_{self.head['id']}", **what}}

    def _chunk(self, delta: dict[str, Any], heard: Reply | None = None, ended: Reply | None = None) -> bytes:
        reason = None if ended is None else wire.finish(ended)
        told = {**self.head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}
        if heard is not None:
            told["heard"] = wire.heard(heard)
        if ended is not None and ended.fault is not None:
            told["fault"] = ended.fault
        return f"data: {json.dumps(told, ensure_ascii=False, allow_nan=False)}\n\n".encode()
