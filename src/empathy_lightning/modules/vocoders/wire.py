"""The protocol between this library and a vocoder that lives elsewhere; docs/vocoders.md says it in prose.

One request is one line of JSON, and its answer one line of JSON with as many samples behind it as the line says:
16-bit little-endian PCM, mono. Over a process the requests go to its standard input and the answers come from its
standard output; over HTTP a request is the body of a POST, and the answer that of the response.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from empathy_lightning.modules.contracts import VocoderError

PROTOCOL = 1
LONGEST_LINE = 2**16
"""Bytes of a line of an answer at most."""
LONGEST_BLOCK = 2**25
"""Samples of an answer at most: more than ten minutes at 48 kHz."""


class Refusal(VocoderError):
    """A request that the vocoder does not meet; it may be asked for another reply."""


@dataclass(frozen=True)
class Request:
    """What a vocoder is asked.

    Attributes:
        reply: Names the reply; several may be spoken by turns.
        units: The next of the reply, or none.
        end: Whether they are the last; the answer holds all that is left of the waveform.
        cancel: Whether the reply is given up; the answer is empty, and nothing follows.
    """

    reply: str
    units: Sequence[int] = ()
    end: bool = False
    cancel: bool = False

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps({**vars(self), "units": list(self.units)}).encode() + b"\n"


def read_request(line: bytes) -> Request:
    """The request of a line.

    Raises:
        VocoderError: If it is none.
    """
    values = _object(line, "the request")
    units = values.get("units", [])
    # By type itself, since JSON's true is an int too.
    whole = isinstance(units, list) and all(type(unit) is int and 0 <= unit < 2**31 for unit in units)
    if not whole or not isinstance(values.get("reply"), str):
        raise VocoderError('a request is {"reply": "NAME", "units": [1, 2, ...], "end": false, "cancel": false}')
    return Request(values["reply"], units, values.get("end") is True, values.get("cancel") is True)


@dataclass(frozen=True)
class Greeting:
    """What a vocoder says of itself: the first line of a process, or the answer to a GET.

    Attributes:
        sample_rate: In Hz.
        num_units: Size of its vocabulary, if it has one.
    """

    sample_rate: int
    num_units: int | None = None

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps({"empathy_vocoder": PROTOCOL, **vars(self)}).encode() + b"\n"


def read_greeting(line: bytes, who: str) -> Greeting:
    """The greeting of a line.

    Raises:
        VocoderError: If it is none, or of another version of the protocol.
    """
    values = _object(line, who)
    if values.get("empathy_vocoder") != PROTOCOL:
        raise VocoderError(f'{who} did not begin with {{"empathy_vocoder": {PROTOCOL}, ...}}: see docs/vocoders.md')
    rate, size = values.get("sample_rate"), values.get("num_units")
    if type(rate) is not int or not (size is None or type(size) is int):
        raise VocoderError(f"{who} says no sample_rate in its first line: see docs/vocoders.md")
    return Greeting(rate, size)


def answer(waveform: Tensor) -> bytes:
    """The answer that holds a waveform (t,) in -1..1."""
    samples = (waveform.detach().float().cpu().clamp(-1, 1) * 32767).round().to(torch.int16)
    return json.dumps({"samples": len(samples)}).encode() + b"\n" + samples.numpy().astype("<i2").tobytes()


def refusal(error: str) -> bytes:
    """The answer to a request that cannot be met."""
    return json.dumps({"error": " ".join(error.split())[:300]}).encode() + b"\n"


def samples_in(line: bytes, who: str) -> int:
    """How many samples follow the line of an answer.

    Raises:
        Refusal: If it says what is wrong with the request.
        VocoderError: If it is no answer.
    """
    values = _object(line, who)
    if "error" in values:
        raise Refusal(f"{who} refuses: {' '.join(str(values['error']).split())[:200]}")
    count = values.get("samples")
    if type(count) is not int or not 0 <= count <= LONGEST_BLOCK:
        raise VocoderError(f"{who} says no number of samples in its answer, but {line[:60]!r}")
    return count


def waveform_of(samples: bytes) -> Tensor:
    """Waveform (t,) in -1..1 of the bytes behind an answer's line."""
    # Little-endian, whatever this machine's own order is.
    return torch.from_numpy(np.frombuffer(samples, "<i2").astype(np.float32)) / 32767


def _object(line: bytes, who: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise VocoderError(f"{who} sent {line[:60]!r} where a line of JSON was due: only answers may be printed")
    return values
