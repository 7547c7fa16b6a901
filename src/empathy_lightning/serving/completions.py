"""``POST /v1/chat/completions``: as OpenAI's, with ``input_audio`` in and text, or sound with its words, out."""

from __future__ import annotations

import time
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from empathy_lightning.audio import resample
from empathy_lightning.errors import InputError
from empathy_lightning.reply import Reply
from empathy_lightning.serving import wire
from empathy_lightning.serving.answers import Answer, StreamedAnswer, WholeAnswer
from empathy_lightning.serving.chunks import CompletionChunks
from empathy_lightning.serving.limits import Refused
from empathy_lightning.serving.messages import conversation_of
from empathy_lightning.serving.service import Service, options
from empathy_lightning.serving.sound import PCM16_RATE, pcm
from empathy_lightning.serving.uploads import json_of

_READ = ("model", "messages", "modalities", "audio", "stream", "stream_options", "max_tokens", "max_completion_tokens")
_UNREAD = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")


async def models(request: Request) -> Response:
    """The one model that there is."""
    service: Service = request.app.state.service
    entry = {"id": service.name, "object": "model", "created": 0, "owned_by": "empathy_lightning"}
    return JSONResponse({"object": "list", "data": [entry]})


async def completions(request: Request) -> Answer:
    """Answer the last message of a conversation."""
    service: Service = request.app.state.service
    with service.taking():
        asked = await json_of(request, service.limits)
        chosen, form = _chosen(asked, service)
        conversation = await conversation_of(asked.get("messages"), service.limits)
    question = service.question(conversation.waveform, chosen, conversation.history, conversation.system)
    named = Named(f"chatcmpl-{token_hex(12)}", int(time.time()), service.name, form)
    answering = service.ask(question)
    if asked.get("stream"):
        return StreamedAnswer(
            answering, CompletionChunks(named.head("chat.completion.chunk"), form), "text/event-stream"
        )
    return WholeAnswer(answering, named.whole)


def _chosen(asked: dict[str, Any], service: Service) -> tuple[dict[str, Any], str | None]:
    """What the client chooses, and in what format it wants sound."""
    # Many clients say that they want one answer, which is all that they get.
    if asked.get("n") == 1:
        del asked["n"]
    chosen = options(asked, [*_READ, *_UNREAD])
    longest = asked.get("max_completion_tokens") or asked.get("max_tokens")
    chosen |= options({"max_new_tokens": longest})
    form = _form(asked, service)
    return {**chosen, "aloud": form is not None}, form


def _form(asked: dict[str, Any], service: Service) -> str | None:
    """In what format sound is wanted; None where it is not."""
    modalities = asked.get("modalities") or ["text"]
    if not isinstance(modalities, list) or not set(map(str, modalities)) <= {"text", "audio"}:
        raise InputError('modalities are ["text"] or ["text", "audio"]')
    if "audio" not in modalities:
        return None
    if service.sample_rate is None:
        raise InputError("this bot has no voice: ask for the modality text alone")
    audio = asked.get("audio") or {}
    usual = "pcm16" if asked.get("stream") else "wav"
    form = audio.get("format", usual) if isinstance(audio, dict) else None
    if form not in ("wav", "pcm16"):
        raise InputError("the audio's format is wav or pcm16")
    if asked.get("stream") and form != "pcm16":
        raise InputError("streamed audio has the format pcm16")
    return str(form)


class Named:
    """A completion with its name.

    Args:
        name: Of its own.
        created: Seconds since 1970.
        model: Which answers.
        form: Of the sound; None without.
    """

    def __init__(self, name: str, created: int, model: str, form: str | None) -> None:
        self.name = name
        self.created = created
        self.model = model
        self.form = form

    def head(self, kind: str) -> dict[str, Any]:
        """What stands in each object."""
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model}

    def whole(self, reply: Reply) -> Response:
        """A whole reply."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if self.form is not None:
            if reply.waveform is None or reply.sample_rate is None:
                raise Refused(500, reply.fault or "the reply has no sound")
            data = wire.spoken(reply)
            if self.form == "pcm16":
                data = pcm(resample(reply.waveform, reply.sample_rate, PCM16_RATE))
            audio = {"id": f"audio_{self.name}", "data": wire.base64(data), "transcript": reply.text}
            message |= {"content": None, "audio": {**audio, "expires_at": self.created}}
        choice = {"index": 0, "message": message, "finish_reason": wire.finish(reply), "logprobs": None}
        told = {**self.head("chat.completion"), "choices": [choice], "heard": wire.heard(reply)}
        return JSONResponse(told, headers={"cache-control": "no-store"})
