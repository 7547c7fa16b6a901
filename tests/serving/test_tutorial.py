"""The tutorial docs/tutorials/deploy.md as it stands: its server, asked with curl, and its unit for systemd."""

import configparser
import json
import re
import shutil
import signal
import subprocess
import sys
from base64 import b64decode

import pytest

from empathy_lightning.__main__ import application
from empathy_lightning.audio import SAMPLE_RATE, read, write
from empathy_lightning.checkpoints import save
from tests.conftest import ROOT
from tests.serving.conftest import question

PAGE = (ROOT / "docs/tutorials/deploy.md").read_text()
SMALL = "--trust=tests --max_new_tokens=8 --temperature=3 --seed=2 --units_per_token=1 --port=0"
"""So that a tiny bot answers soon, on a port that is free."""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(bot, tmp_path, monkeypatch):
    """A folder as the small world leaves it, with a question."""
    save(tmp_path / "outputs/demo/speech_decoder", bot.model)
    write(tmp_path / "question.flac", question(1), SAMPLE_RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    return tmp_path


def run(script):
    words = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "openssl"))), reason="needs curl and openssl")
def test_a_newcomer_serves_a_bot_and_asks_it(place):
    token, serve, *asking = blocks("bash")
    run(token)
    words = serve.strip().replace("empathy-lightning", f"{sys.executable} -m empathy_lightning")
    with (place / "log").open("w") as log:
        process = subprocess.Popen(f"exec {words} {SMALL}", shell=True, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        said = process.stdout.readline()
        assert said.startswith("outputs/demo/speech_decoder answers at http://127.0.0.1:"), (place / "log").read_text()
        port = said.rpartition(":")[2].strip()
        told = "".join(run(script.replace(":8000", f":{port}")) for script in asking)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    reply = json.loads((place / "reply.json").read_text())
    assert f"{reply['heard']['emotion']} {reply['text']}" in told
    assert len(read(str(place / "reply.wav"))) > 0
    assert "401" in told and "token" in (place / "refused.json").read_text()
    message = json.loads((place / "completion.json").read_text())["choices"][0]["message"]
    assert b64decode(message["audio"]["data"])[:4] == b"RIFF"
    assert message["audio"]["transcript"] == reply["text"]
    assert 'empathy_questions_total{outcome="answered"} 3.0' in told


def test_the_unit_starts_what_there_is(tmp_path):
    (text,) = blocks("ini")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string(text)
    program, *words = unit["Service"]["ExecStart"].split()
    assert program.endswith("/empathy-lightning")
    _, bound, _ = application().parse_args(words)
    assert bound.arguments["name"] == "Ada" and str(bound.arguments["token_file"]) == "%d/token"
    # What is installed where, by the commands above it.
    assert "cp -r outputs/demo/speech_decoder /srv/empathy\n" in PAGE and words[1] == "/srv/empathy"
    source = unit["Service"]["LoadCredential"].partition(":")[2]
    assert f"token {source}\n" in PAGE
    if shutil.which("systemd-analyze"):
        file = tmp_path / "empathy.service"
        file.write_text(text.replace(program, sys.executable))
        checked = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
        assert str(file) not in checked.stderr and "empathy.service:" not in checked.stderr, checked.stderr
