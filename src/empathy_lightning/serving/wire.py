"""What comes of a question, as JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from empathy_lightning.reply import Reply
from empathy_lightning.serving.engine import Heard
from empathy_lightning.serving.sound import pcm, wave
from empathy_lightning.streaming import AudioBlock, TextPiece


def heard(reply: Reply) -> dict[str, Any]:
    """What was heard: emotion, probabilities, ratings; null where the bot does not tell."""
    names = ("emotion", "probabilities", "arousal", "valence", "dominance")
    return {name: getattr(reply, name) for name in names}


def said(reply: Reply) -> dict[str, Any]:
    """What was replied, without its sound."""
    names = ("text", "cut", "speech_cut", "interrupted", "fault")
    told = {name: getattr(reply, name) for name in names}
    return {**told, "said": reply.turn.reply, "timings": vars(reply.timings)}


def whole(reply: Reply) -> dict[str, Any]:
    """A reply with what was heard and its sound."""
    audio = None
    if reply.waveform is not None and reply.sample_rate is not None:
        audio = {"format": "wav", "sample_rate": reply.sample_rate, "data": base64(spoken(reply))}
    return {"heard": heard(reply), **said(reply), "audio": audio}


def spoken(reply: Reply) -> bytes:
    """The sound of a reply as a WAV file; empty where it has none."""
    if reply.waveform is None or reply.sample_rate is None:
        return b""
    return wave(reply.waveform, reply.sample_rate)


def event_of(event: Heard | TextPiece | AudioBlock | Reply) -> dict[str, Any]:
    """An event as an object with a type: heard, text, audio or reply."""
    if isinstance(event, Heard):
        return {"type": "heard", **heard(event.reply)}
    if isinstance(event, TextPiece):
        return {"type": "text", "text": event.text}
    if isinstance(event, AudioBlock):
        return {
            "type": "audio",
            "format": "pcm16",
            "sample_rate": event.sample_rate,
            "data": base64(pcm(event.waveform)),
        }
    return {"type": "reply", **said(event)}


def finish(reply: Reply) -> str:
    """Why a reply ends, in OpenAI's words."""
    return "length" if reply.cut or reply.interrupted else "stop"


def base64(data: bytes) -> str:
    """Bytes as text."""
    return b64encode(data).decode("ascii")


def line(value: Any) -> bytes:
    """A value as a line of JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
