"""A tiny bot behind a real server, on a socket of this machine, in this process."""

import asyncio
import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
import torch

pytest.importorskip("starlette", reason="serving needs the extra: pip install 'empathy_lightning[serve]'")

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
from empathy_lightning.serving.engine import Engine
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.metrics import Metrics
from empathy_lightning.serving.server import Server, listening
from empathy_lightning.serving.service import Service
from empathy_lightning.serving.sound import heard_file, wave
from empathy_lightning.utterance import EMOTIONS
from tests.test_streaming import Beeps, decoder_of
from tests.tiny import spoken

DRAWN = Decoding(8, temperature=3.0, seed=2, units_per_token=1)


def question(number, seconds=0.4):
    """A recording of its own, as it comes out of a WAV file."""
    noise = 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=torch.Generator().manual_seed(number))
    return heard_file(wave(noise, SAMPLE_RATE), 300)


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(spoken(model, EMOTIONS, decoder_of(model), Beeps()))


class Running:
    """A server that runs, and how it is reached."""

    def __init__(self, server, port):
        self.server = server
        self.service = server.service
        self.port = port
        self.loop = None

    def ask(self, path, body=None, timeout=60, **headers):
        """Status, headers and bytes of an answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, content

    def json(self, path, body=None, **headers):
        """Status and what an answer says."""
        if isinstance(body, dict):
            body = json.dumps(body)
        status, _, content = self.ask(path, body, **headers)
        return status, json.loads(content)

    def live(self, **options):
        """A live conversation."""
        from websockets.sync.client import connect

        return connect(f"ws://127.0.0.1:{self.port}/v1/live", max_size=None, **options)

    def end(self):
        """Let it end, as SIGTERM does."""
        self.loop.call_soon_threadsafe(self.server.end)


@contextmanager
def serving(bot, limits=None, decoding=DRAWN, **options):
    """Run a server around a bot."""
    engine = Engine(bot, limits or Limits())
    server = Server(Service("tiny", engine, Metrics(engine), decoding), **options)
    taken = listening("127.0.0.1", 0, server.service.limits.stall_seconds)
    running = Running(server, taken.getsockname()[1])

    async def _serve():
        running.loop = asyncio.get_running_loop()
        await server.serve(sockets=[taken])

    thread = threading.Thread(target=lambda: asyncio.run(_serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield running
    finally:
        if thread.is_alive():
            running.end()
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture
def server(bot):
    with serving(bot) as running:
        yield running
