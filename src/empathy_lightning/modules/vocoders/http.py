"""A vocoder behind HTTP, on this machine or another: the protocol of :mod:`.wire`."""

from __future__ import annotations

import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from torch import Tensor

from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoders.external import ExternalVocoder
from empathy_lightning.modules.vocoders.wire import (
    Greeting,
    Request,
    read_greeting,
    samples_in,
    waveform_of,
)


class HttpVocoder(ExternalVocoder):
    """Speaks by a server of yours; one that is gone or stalls raises :class:`.contracts.VocoderError`.

    A checkpoint folder that names one is loaded only by who trusts this module.

    Args:
        address: Such as ``http://127.0.0.1:8765``; proxies of the environment are not used.
        sample_rate: Of its waveforms, in Hz.
        num_units: Size of its vocabulary; None for any.
        timeout: Seconds that it may take for one answer.

    Raises:
        ValueError: If the address is none of http or https.
    """

    needs_trust = "sends to another address"

    def __init__(self, address: str, sample_rate: int, num_units: int | None = None, timeout: float = 30.0) -> None:
        super().__init__(sample_rate, num_units)
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{address} is no address of a vocoder: give one such as http://127.0.0.1:8765")
        self.address = address
        self.timeout = timeout

    def line(self) -> _Server:
        """The server, which is not asked yet."""
        return _Server(self.address, self.timeout)


class _Server:
    """A server, with a connection for each request."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address = urlsplit(address)
        query = f"?{self._address.query}" if self._address.query else ""
        self._path = (self._address.path or "/") + query
        # What stands behind a question mark may be a key.
        self._who = f"the vocoder at {address.partition('?')[0]}"
        self._timeout = timeout

    def greeting(self) -> Greeting:
        """What it says of itself."""
        line, _ = self._sent("GET", b"", self._timeout)
        return read_greeting(line, self._who)

    def ask(self, request: Request) -> Tensor:
        """The waveform (t,) that answers a request; raises VocoderError."""
        # Nobody waits for what becomes of a reply that is given up.
        seconds = min(self._timeout, 1.0) if request.cancel else self._timeout
        line, rest = self._sent("POST", request.line(), seconds)
        count = samples_in(line, self._who)
        if len(rest) != 2 * count:
            raise VocoderError(f"{self._who} broke off in the middle of an answer: start it again")
        return waveform_of(rest)

    def _sent(self, method: str, body: bytes, seconds: float) -> tuple[bytes, bytes]:
        """The line of an answer and what follows it."""
        kind = HTTPSConnection if self._address.scheme == "https" else HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port, timeout=seconds)
        try:
            connection.request(method, self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise VocoderError(f"{self._who} answers with HTTP status {response.status}: see docs/vocoders.md")
            line, _, rest = _body(response, seconds).partition(b"\n")
            return line, rest
        except TimeoutError:
            raise VocoderError(f"{self._who} did not answer in time: give it a longer timeout, or look there") from None
        except (OSError, HTTPException) as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise VocoderError(f"{self._who} cannot be reached or broke off ({reason}): start it there") from None
        finally:
            connection.close()


def _body(response: HTTPResponse, seconds: float) -> bytes:
    """The body; a server that sends a byte now and then would outlast the time of a single read."""
    deadline = time.monotonic() + seconds
    blocks: list[bytes] = []
    while block := response.read1(2**16):
        blocks.append(block)
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(blocks)
