"""One address that takes JSON and gives JSON: nothing is sent anywhere else."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.judges.judge import AskAgain

_MOST_BYTES = 2**24
_LATER = (408, 409, 425, 429)
"""Statuses below 500 after which the same request may succeed."""


class BadRequest(InputError):
    """A request that the server will not take as it is.

    Args:
        reason: One line for the user.
        body: The JSON that came with it.
    """

    def __init__(self, reason: str, body: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.body = body


class Endpoint:
    """A server's address; redirections are not followed, and proxies of the environment are not used.

    Args:
        address: Such as ``http://127.0.0.1:8000/v1``.
        key_variable: Environment variable that holds the key; None sends no key.
        key_header: Header of the key, with ``{}`` in the place of the key itself.
        timeout: Seconds that one answer may take.

    Raises:
        InputError: If it is no address, or the variable is empty.
    """

    def __init__(self, address: str, key_variable: str | None, key_header: tuple[str, str], timeout: float) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            shown = address.rpartition("@")[2]
            raise InputError(f"{shown} is no address of a judge: give one such as http://127.0.0.1:8000/v1")
        self._parts = parts
        self._timeout = timeout
        # What stands behind a question mark may be a key.
        self.shown = address.partition("?")[0]
        self._key = _key(key_variable)
        name, form = key_header
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            self._headers[name] = form.format(self._key)

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the server answers to a request.

        Args:
            path: Below the address.
            body: JSON values.

        Raises:
            AskAgain: If it may be sent again: the server is gone, slow, busy or has broken off.
            InputError: If it may not.
        """
        query = f"?{self._parts.query}" if self._parts.query else ""
        status, headers, content = self._sent(f"{self._parts.path.rstrip('/')}/{path}{query}", json.dumps(body))
        found = _json_object(content)
        if status == 200 and found is not None:
            return found
        said = self._said(found)
        if status == 200:
            raise AskAgain(f"the judge at {self.shown} answers with no JSON object: is it the right address?")
        if status in _LATER or status >= 500:
            raise AskAgain(
                f"the judge at {self.shown} answers with HTTP status {status}{said}", _seconds(headers["retry-after"])
            )
        reason = _REASONS.get(status, _OTHER).format(status)
        raise BadRequest(f"the judge at {self.shown} {reason}{said}", found or {})

    def _sent(self, path: str, body: str) -> tuple[int, dict[str, str | None], bytes]:
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        connection = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            connection.request("POST", path, body.encode(), self._headers)
            response = connection.getresponse()
            headers = {"retry-after": response.getheader("Retry-After")}
            return response.status, headers, self._body(response)
        except TimeoutError:
            raise AskAgain(f"the judge at {self.shown} did not answer in {self._timeout:g} s") from None
        except (OSError, HTTPException, ValueError) as error:
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise AskAgain(f"the judge at {self.shown} cannot be reached or broke off ({reason})") from None
        finally:
            connection.close()

    def _body(self, response: HTTPResponse) -> bytes:
        """The body; a server that sends a byte now and then would outlast the time of a single read."""
        deadline = time.monotonic() + self._timeout
        blocks: list[bytes] = []
        length = 0
        while block := response.read1(2**16):
            blocks.append(block)
            length += len(block)
            if time.monotonic() > deadline:
                raise TimeoutError
            if length > _MOST_BYTES:
                raise ValueError("an endless answer")
        # read1 does not tell when a stated length was not reached.
        if response.length:
            raise ValueError("in the middle of an answer")
        return b"".join(blocks)

    def _said(self, found: dict[str, Any] | None) -> str:
        """The server's own words of what is wrong, without the key that some repeat."""
        error = (found or {}).get("error")
        message = error.get("message") if isinstance(error, dict) else error
        if not isinstance(message, str):
            return ""
        if self._key is not None:
            message = message.replace(self._key, "(the key)")
        return f": {' '.join(message.split())[:200]}"


_OTHER = "refuses the request with HTTP status {}"
_REASONS = {
    401: "does not accept the key (HTTP status {}): look at the variable that key_variable names",
    403: "does not accept the key (HTTP status {}): look at the variable that key_variable names",
    404: "has no such place or model (HTTP status {}): look at base_url and model",
    301: "sends elsewhere (HTTP status {}), which is not followed: give the address itself as base_url",
    302: "sends elsewhere (HTTP status {}), which is not followed: give the address itself as base_url",
    307: "sends elsewhere (HTTP status {}), which is not followed: give the address itself as base_url",
    308: "sends elsewhere (HTTP status {}), which is not followed: give the address itself as base_url",
}


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(f"the environment variable {variable} holds no key: set it, or leave key_variable out")
    if not key.isascii() or not key.isprintable():
        raise InputError(f"the environment variable {variable} holds no key: one is a line of plain letters")
    return key


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds them or a date; None for neither."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
