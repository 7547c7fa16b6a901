"""Serves a vocoder to a chatbot in another process: the protocol of docs/vocoders.md, from any vocoder folder of ours.

    python examples/vocoder_server.py my_vocoder                      # over standard input and output
    python examples/vocoder_server.py my_vocoder --http 127.0.0.1:8765

A vocoder that needs an environment of its own (CosyVoice2, IndexTTS2, GLM-4-Voice) is served in the same way: install
this library there, and give `Served` an object with `sample_rate` and a call from units (1, U) to waveforms (1, T).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import OrderedDict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, BinaryIO

import torch
from torch import Tensor

from empathy_lightning.checkpoints import load_vocoder
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoder_stream import VocoderStream
from empathy_lightning.modules.vocoders.wire import Greeting, Request, answer, read_request, refusal

MOST_REPLIES = 64
"""Open at once; the oldest one goes, since nobody tells a server of a client that is gone."""


class Served:
    """A vocoder with the replies that it is in the middle of.

    Args:
        vocoder: Any part as :class:`empathy_lightning.modules.contracts.Vocoder` says.
    """

    def __init__(self, vocoder: Any) -> None:
        self.vocoder = vocoder
        self.greeting = Greeting(vocoder.sample_rate, getattr(vocoder, "num_units", None))
        self._open: OrderedDict[str, VocoderStream] = OrderedDict()
        self._lock = Lock()

    def answered(self, line: bytes) -> bytes:
        """The answer to a request, whatever it is."""
        try:
            request = read_request(line)
            with self._lock:
                return answer(self._spoken(request, torch.tensor(request.units, dtype=torch.long)))
        except VocoderError as error:
            return refusal(str(error))

    def _spoken(self, request: Request, units: Tensor) -> Tensor:
        if request.reply not in self._open:
            if len(self._open) >= MOST_REPLIES:
                self._open.popitem(last=False)[1].close()
            self._open[request.reply] = VocoderStream(self.vocoder)
        stream = self._open[request.reply]
        if not request.end and not request.cancel:
            return stream.push(units)
        del self._open[request.reply]
        if request.cancel:
            stream.close()
            return torch.zeros(0)
        return torch.cat([stream.push(units), stream.end()])


def serve_process(served: Served, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer line by line until the input ends, as it does when the chatbot is gone."""
    answers.write(served.greeting.line())
    answers.flush()
    for line in requests:
        answers.write(served.answered(line))
        answers.flush()


def http_server(served: Served, host: str, port: int) -> ThreadingHTTPServer:
    """A server at that address; port 0 takes any that is free."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(served.greeting.line())

        def do_POST(self) -> None:
            self._send(served.answered(self.rfile.read(int(self.headers.get("Content-Length", 0)))))

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for each block of sound would say nothing."""

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """Serve the vocoder of a folder."""
    parser = argparse.ArgumentParser(description="Serves a vocoder to a chatbot in another process.")
    parser.add_argument("folder", help="of a vocoder, alone or in a whole model's")
    parser.add_argument("--http", metavar="HOST:PORT", help="over HTTP instead of standard input and output")
    parser.add_argument("--trust", action="append", help="packages whose classes the folder may name")
    chosen = parser.parse_args()
    # Whatever a library prints would stand between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    if not chosen.http:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        served = Served(load_vocoder(chosen.folder, chosen.trust))
    except InputError as error:
        sys.exit(str(error))
    if chosen.http:
        host, _, port = chosen.http.rpartition(":")
        with http_server(served, host, int(port)) as server:
            print(f"vocoder at http://{host}:{server.server_address[1]}", flush=True)
            server.serve_forever()
    else:
        serve_process(served, sys.stdin.buffer, answers)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
