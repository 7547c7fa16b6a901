"""The command line: a server of its own process, its end by a signal, and its memory."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from empathy_lightning.__main__ import main
from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.checkpoints import save
from empathy_lightning.serving.sound import pcm, wave
from tests.serving.conftest import question
from tests.test_streaming import wait_until


@contextmanager
def started(bot, folder, *options):
    """A server's process and its port."""
    save(folder, bot.model)
    words = [sys.executable, "-m", "empathy_lightning", "serve", str(folder), "--port=0", "--trust=tests", *options]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    # One heap for all threads, so that what it holds is what is held.
    environment["MALLOC_ARENA_MAX"] = "1"
    log = folder.with_suffix(".log")
    with log.open("w") as shown:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=shown, text=True, env=environment)
    try:
        line = process.stdout.readline()
        assert line.startswith(f"{folder} answers at http://127.0.0.1:"), log.read_text()
        yield process, int(line.rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def post(port, number, path="/v1/respond"):
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, wave(question(number), SAMPLE_RATE))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def resident(process):
    """Megabytes that a process holds; 0 where that is not told."""
    status = Path(f"/proc/{process.pid}/status")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) / 1_024 if status.exists() else 0.0


def talk(port, number):
    """A short conversation."""
    with connect(f"ws://127.0.0.1:{port}/v1/live") as live:
        live.send(pcm(question(number)))
        live.send(json.dumps({"type": "commit"}))
        while '"reply"' not in (message := str(live.recv(60))):
            assert '"error"' not in message


def test_a_conversation_leaves_nothing_behind(server):
    """Neither its sound nor its words nor what was made of them."""
    kinds = ("Answering", "Asked", "Conversation", "Question", "Reply", "ReplyStream", "Tensor", "WebSocket")

    def _left():
        gc.collect()
        return Counter(type(thing).__name__ for thing in gc.get_objects())

    def _hold():
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(talk, [server.port] * 40, range(40)))
        service = server.service
        wait_until(lambda: service.metrics.open == service.engine.answering == service.engine.waiting == 0)

    before = _left()
    _hold()
    first = _left()
    for _ in range(2):
        _hold()
    left = _left()
    assert all(left[kind] <= first[kind] for kind in kinds)
    # What many have said leaves no more than what one bot keeps for itself.
    assert all(first[kind] <= before[kind] + 3 for kind in kinds if kind != "Tensor")


def test_memory_is_flat_and_the_end_lets_replies_end(bot, tmp_path):
    options = ("--temperature=3", "--max_new_tokens=3", "--units_per_token=1", "--batch_size=16")
    with started(bot, tmp_path / "bot", *options) as (process, port), ThreadPoolExecutor(16) as clients:
        list(clients.map(talk, [port] * 100, range(100)))
        before = resident(process)
        list(clients.map(talk, [port] * 200, range(100, 300)))
        assert resident(process) < before + 16
        with connect(f"ws://127.0.0.1:{port}/v1/live") as live:
            answers = [clients.submit(post, port, number) for number in range(12)]
            live.send(pcm(question(2)))
            live.send(json.dumps({"type": "commit"}))
            while "heard" not in str(live.recv(60)):
                pass
            process.send_signal(signal.SIGTERM)
            kinds = []
            with pytest.raises(ConnectionClosed, match="1012"):
                while message := live.recv(60):
                    kinds += [json.loads(message)["type"]] if isinstance(message, str) else []
            assert kinds[-1] == "reply"
            # Those that came too late were told so.
            assert {answer.result()[0] for answer in answers} <= {200, 503}
        assert process.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_what_the_command_line_refuses(bot, tmp_path, capsys):
    save(tmp_path / "bot", bot.model)
    (tmp_path / "token").write_text("\n")
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    for options, message in [
        (["--host=0.0.0.0"], "whoever reaches 0.0.0.0 could use the bot: give --token_file, or --open_to_all"),
        ([f"--port={port}"], f"127.0.0.1:{port} cannot be had"),
        (["--port=70000"], "--port 70000 has to be 0 to 65535"),
        ([f"--token_file={tmp_path / 'token'}"], "holds no token"),
        (["--seconds=900"], "at most 300 s of speech can be answered: give fewer --seconds"),
        (["--waiting=0"], "--waiting 0 has to be a number above 0"),
        (["--seconds=nan"], "--seconds nan has to be a number above 0"),
        (["--megabytes=inf"], "--megabytes inf has to be a number above 0"),
        (["--temperature=nan"], "temperature has to be a number, not nan"),
        ([f"--token_file={tmp_path / 'absent'}"], f"--token_file {tmp_path / 'absent'} cannot be read"),
        (["--device=cudaa"], "device 'cudaa' cannot be used"),
        (["--device=cuda:77"], "device 'cuda:77' cannot be used"),
    ]:
        assert main(["serve", str(tmp_path / "bot"), "--trust=tests", "--device=cpu", *options]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    taken.close()
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
