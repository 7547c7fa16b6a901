"""A vocoder in another process or behind HTTP: what it says, and every way in which it may fail."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from empathy_lightning.checkpoints import CheckpointError, load_vocoder, save
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoder_stream import VocoderStream
from empathy_lightning.modules.vocoders.http import HttpVocoder
from empathy_lightning.modules.vocoders.process import ProcessVocoder
from empathy_lightning.modules.vocoders.unit_hifigan import UnitHifiGan
from tests.conftest import ROOT
from tests.modules.vocoders.streaming import loud

SERVER = str(ROOT / "examples/vocoder_server.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}

FAKE = """
import json, os, subprocess, sys, time
def greet(rate=100, **more):
    print(json.dumps({"empathy_vocoder": 1, "sample_rate": rate, "num_units": 9, **more}), flush=True)
def say(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
def asked():
    return json.loads(sys.stdin.readline())
def answer(count=2):
    say(json.dumps({"samples": count}).encode() + b"\\n" + bytes(2 * count))
"""
"""A vocoder of two silent samples an answer, without torch, so that it starts at once."""


@pytest.fixture
def program(tmp_path):
    """Makes vocoders of small programs that begin as FAKE does."""
    made = []

    def _program(body, **options):
        file = tmp_path / f"program{len(made)}.py"
        file.write_text(FAKE + body)
        options = {"sample_rate": 100, "timeout": 20.0, **options}
        made.append(ProcessVocoder([sys.executable, "-I", str(file)], **options))
        return made[-1]

    yield _program
    for vocoder in made:
        vocoder.stop()


def children():
    """Processes of ours, zombies among them."""
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line.split()[0] for line in listed.stdout.splitlines() if line.split()[1] != "ps"}


@pytest.fixture
def no_child_left():
    before = children()
    yield
    assert children() <= before


def gone(pid):
    """Whether a process ends; one that nobody waited for counts as ended, since its parent is not we."""
    for _ in range(200):
        status = Path(f"/proc/{pid}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"upsample_factors": [5, 4], "upsample_kernel_sizes": [11, 8], "channels": 8, "embedding_size": 4}
    vocoder = loud(UnitHifiGan(20, kernel_sizes=[3], dilations=[[1, 2, 3]], **sizes)).eval()
    path = tmp_path_factory.mktemp("served") / "vocoder"
    save(path, vocoder)
    return path


def spoken(vocoder, units, cuts=(3, 17, 17, 40)):
    stream = VocoderStream(vocoder)
    blocks = [stream.push(units[a:b]) for a, b in zip([0, *cuts], [*cuts, len(units)], strict=True)]
    return [*blocks, stream.end()]


@torch.no_grad()
def test_the_server_speaks_as_the_vocoder_does_over_a_process(folder, monkeypatch, no_child_left):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    own, units = load_vocoder(str(folder)), torch.randint(20, (60,))
    away = ProcessVocoder([sys.executable, SERVER, str(folder)], sample_rate=16_000, num_units=20)
    expected = own(units[None])[0]
    blocks = spoken(away, units)
    assert sum(map(bool, map(len, blocks))) > 2
    assert (torch.cat(blocks) - expected).abs().max() < 1e-3
    assert (away(units[None].repeat(2, 1)) - expected).abs().max() < 1e-3
    # Two replies by turns, of which one is given up; the other one is not disturbed.
    first, second = VocoderStream(away), VocoderStream(away)
    heard = [first.push(units[:30])]
    second.push(units[5:20])
    heard.append(first.push(units[30:]))
    second.close()
    assert (torch.cat([*heard, first.end()]) - expected).abs().max() < 1e-3
    away.num_units = None
    with pytest.raises(VocoderError, match="refuses: unit 20 is unknown to UnitHifiGan, which has 0 to 19"):
        VocoderStream(away).push(torch.tensor([20]))
    assert (torch.cat(spoken(away, units)) - expected).abs().max() < 1e-3
    away.stop()


@torch.no_grad()
def test_the_server_speaks_over_http_until_it_is_gone(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from vocoder_server import Served, http_server

    own, units = load_vocoder(str(folder)), torch.randint(20, (60,))
    with http_server(Served(own), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            away = HttpVocoder(address, 16_000, num_units=20)
            assert (torch.cat(spoken(away, units)) - own(units[None])[0]).abs().max() < 1e-3
            with pytest.raises(VocoderError, match="the vocoder speaks at 16000 Hz, not 8000: give sample_rate 16000"):
                VocoderStream(HttpVocoder(address, 8_000))
            with pytest.raises(VocoderError, match="the vocoder knows 20 units, not 30: use the vocoder of the units'"):
                VocoderStream(HttpVocoder(address, 16_000, num_units=30))
            stream, left = VocoderStream(away), VocoderStream(away)
            stream.push(units)
            left.push(units)
        finally:
            server.shutdown()
            thread.join()
    for call in (stream.end, lambda: VocoderStream(away)):
        with pytest.raises(VocoderError, match=rf"^the vocoder at {address} cannot be reached .*: start it there$"):
            call()
    left.close()


@pytest.mark.parametrize(
    "sent, said",
    [
        (b"", "did not answer in time"),
        (b"HTTP/1.0 200 OK\r\n\r\n{", "did not answer in time"),
        (b"HTTP/1.0 404 Not found\r\n\r\n", "answers with HTTP status 404"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "cannot be reached or broke off"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n[1]\n", "where a line of JSON was due"),
    ],
)
def test_a_server_that_stalls_or_is_another_is_a_named_line(sent, said):
    """It sends something, then a byte now and then, for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def _serve():
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(sent)
                while b"Length" not in sent and b"404" not in sent and b"SSH" not in sent:
                    time.sleep(0.1)
                    connection.sendall(b" " if sent else b"")

        thread = threading.Thread(target=_serve, daemon=True)
        thread.start()
        vocoder = HttpVocoder(f"http://127.0.0.1:{listening.getsockname()[1]}", 100, timeout=0.6)
        with pytest.raises(VocoderError, match=said) as told:
            VocoderStream(vocoder)
        assert "\n" not in str(told.value)


def test_a_program_that_dies_in_the_middle_is_one_line_and_the_next_reply_starts_it_anew(program, tmp_path):
    body = """
first = not os.path.exists("MARK")
open("MARK", "w").close()
greet()
while True:
    asked()
    if first:
        answer()
        asked()
        print("out of memory", file=sys.stderr)
        sys.exit(3)
    answer()
""".replace("MARK", str(tmp_path / "started"))
    vocoder, before = program(body), children()
    stream = VocoderStream(vocoder)
    assert len(stream.push(torch.tensor([1, 2]))) == 2
    with pytest.raises(VocoderError) as told:
        stream.push(torch.tensor([3]))
    assert "ended (exit code 3), saying 'out of memory': run it by itself to see why" in str(told.value)
    assert "\n" not in str(told.value) and children() <= before
    with pytest.raises(VocoderError, match="was stopped in the middle of this reply"):
        stream.push(torch.tensor([3]))
    stream.close()
    assert len(torch.cat(spoken(vocoder, torch.arange(5), [2]))) == 6


@pytest.mark.parametrize(
    "body, said",
    [
        ("greet(); asked(); time.sleep(600)", "did not answer in time and was stopped"),
        ("greet(); asked(); say(b'{\"samples\": 9}\\n1234'); time.sleep(600)", "did not answer in time"),
        ("greet(); asked(); say(b'{\"samples\": 9}\\n1234')", r"ended \(exit code 0\)"),
        ("greet(); asked(); say(b'loading 5 %\\n'); time.sleep(600)", "where a line of JSON was due: only answers"),
        ("greet(); asked(); say(b'[1]\\n'); time.sleep(600)", "where a line of JSON was due"),
        ("greet(); asked(); say(b'{\"samples\": 1e12}\\n')", "says no number of samples"),
        ("greet(); asked(); say(b'x' * 10**6); time.sleep(600)", "prints something else than answers"),
        ("time.sleep(600)", "did not answer in time and was stopped"),
        ("sys.exit('no weights at /models')", r"exit code 1\), saying 'no weights at /models'"),
        ("say(b'hello\\n')", "where a line of JSON was due"),
        ("greet(empathy_vocoder=2); time.sleep(600)", "did not begin with"),
        ("greet(rate='fast'); time.sleep(600)", "says no sample_rate"),
        ("greet(rate=200); time.sleep(600)", "speaks at 200 Hz, not 100"),
    ],
)
def test_every_failure_is_a_named_line_and_leaves_nothing(program, no_child_left, body, said):
    short = {"timeout": 1.0} if "asked" in body and "sleep" in body else {}
    if body == "time.sleep(600)":
        short = {"start_timeout": 1.0}
    vocoder = program(body, **short)
    with pytest.raises(VocoderError, match=said) as told:
        VocoderStream(vocoder).push(torch.tensor([1]))
    assert "\n" not in str(told.value)
    vocoder.stop()


def test_a_program_that_reads_nothing_does_not_hang_who_writes(program, no_child_left):
    vocoder = program("greet(); time.sleep(600)", timeout=1.0)
    with pytest.raises(VocoderError, match="did not answer in time"):
        VocoderStream(vocoder).push(torch.zeros(500_000, dtype=torch.long))


def test_what_it_started_goes_with_it(program, tmp_path):
    body = f"""
child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
greet(); asked(); time.sleep(600)
"""
    with pytest.raises(VocoderError, match="did not answer in time"):
        VocoderStream(program(body, timeout=1.0)).push(torch.tensor([1]))
    assert gone(int((tmp_path / "pid").read_text()))


def test_it_ends_with_its_object_and_with_this_process(program, tmp_path, no_child_left):
    vocoder = program("greet()\nwhile True: asked(); answer()")
    VocoderStream(vocoder).push(torch.tensor([1]))
    assert len(children()) > 0
    vocoder._program = None
    code = f"""
import os, torch
from empathy_lightning.modules.vocoders.process import ProcessVocoder
killed = os.fork() == 0
if not killed:
    os.wait()
vocoder = ProcessVocoder({vocoder.command!r}, 100)
vocoder.begin().push(torch.tensor([1]))
print(vocoder._program._process.pid, flush=True)
if killed:
    os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True)
    assert [gone(int(pid)) for pid in ran.stdout.split()] == [True, True], ran.stderr


def test_replies_of_many_threads_do_not_mix(program):
    body = """
greet()
while True:
    units = asked()["units"]
    say(json.dumps({"samples": len(units)}).encode() + b"\\n" + b"".join(u.to_bytes(2, "little") for u in units))
"""
    vocoder, heard = program(body), {}

    def _speak(unit):
        blocks = spoken(vocoder, torch.full((50,), unit), [7, 9])
        heard[unit] = (torch.cat(blocks) * 32767).round()

    threads = [threading.Thread(target=_speak, args=(unit,)) for unit in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {unit: row.tolist() for unit, row in heard.items()} == {unit: [unit] * 50 for unit in range(8)}


def test_replies_that_are_given_up_leave_nothing_open(program):
    body = """
greet()
open_now = set()
while True:
    request = asked()
    open_now.add(request["reply"])
    if request["cancel"] or request["end"]:
        open_now.discard(request["reply"])
    answer(0 if request["cancel"] else len(open_now))
"""
    vocoder = program(body)
    vocoder.begin().close()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(300):
        stream = VocoderStream(vocoder)
        assert len(stream.push(torch.tensor([1, 2]))) == 1
        stream.close()
    assert len(os.listdir("/proc/self/fd")) == files and threading.active_count() == threads


def test_no_units_start_nothing_and_a_wrong_command_is_told(tmp_path, no_child_left):
    vocoder = ProcessVocoder(["/no/such/program", "--fast"], 100)
    assert vocoder(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0)
    with pytest.raises(VocoderError, match="cannot be started: No such file or directory; check the command"):
        VocoderStream(vocoder)
    for command in ("python server.py", [], [1]):
        with pytest.raises(ValueError, match="command has to be a list of words"):
            ProcessVocoder(command, 100)
    for address in ("127.0.0.1:8765", "file:///etc/passwd", "http://"):
        with pytest.raises(ValueError, match="is no address of a vocoder"):
            HttpVocoder(address, 100)


@pytest.mark.parametrize("kind", ["process", "http"])
def test_a_folder_starts_no_program_and_reaches_no_address_unless_it_is_trusted(tmp_path, kind):
    command = [sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    vocoder = ProcessVocoder(command, 100) if kind == "process" else HttpVocoder("http://127.0.0.1:9", 100)
    save(tmp_path / "vocoder", vocoder)
    module = f"empathy_lightning.modules.vocoders.{kind}"
    does = "starts a program" if kind == "process" else "sends to another address"
    for trust in ([], ["mine"], ["empathy_lightning.modules.vocoders.wire"]):
        with pytest.raises(CheckpointError, match=rf"give --trust {module} .*: it {does}, "):
            load_vocoder(str(tmp_path / "vocoder"), trust)
    loaded = load_vocoder(str(tmp_path / "vocoder"), [module])
    assert type(loaded) is type(vocoder) and not (tmp_path / "ran").exists()
    with pytest.raises(VocoderError):
        loaded(torch.tensor([[1]]))
    assert (tmp_path / "ran").exists() == (kind == "process")
