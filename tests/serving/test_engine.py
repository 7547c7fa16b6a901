"""Each its own answer, whoever else asks, stalls, leaves or breaks something."""

import json
import socket
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.sound import wave
from empathy_lightning.utterance import EMOTIONS
from tests.serving.conftest import DRAWN, question, serving
from tests.test_streaming import wait_until


def asked(number, seconds=0.4):
    return wave(question(number, seconds), SAMPLE_RATE)


def _sound(answer):
    return None if answer["audio"] is None else b64decode(answer["audio"]["data"])


def test_a_hundred_clients_at_once_get_each_its_own_answer(bot):
    questions = [question(number, 0.3 + 0.01 * number) for number in range(30)]
    alone = [bot.respond(waveform, decoding=replace(DRAWN, seed=n))[0] for n, waveform in enumerate(questions)]
    assert len({reply.text for reply in alone}) == 30
    start = threading.Barrier(100)

    def _ask(client):
        number = client % 30
        start.wait()
        return number, *running.json(f"/v1/respond?seed={number}", wave(questions[number], SAMPLE_RATE))

    with serving(bot, Limits(waiting=100, wait_seconds=300)) as running, ThreadPoolExecutor(100) as clients:
        answers = list(clients.map(_ask, range(100)))
        counted = running.ask("/metrics")[2].decode()
    for number, status, answer in answers:
        reply = alone[number]
        assert (status, answer["text"], answer["heard"]["emotion"]) == (200, reply.text, reply.emotion)
        assert answer["heard"]["probabilities"] == pytest.approx(reply.probabilities, abs=2e-4)
        assert _sound(answer) == (None if reply.waveform is None else wave(reply.waveform, 8_000))
    assert 'empathy_questions_total{outcome="answered"} 100.0' in counted
    assert "empathy_reply_seconds_count 100.0" in counted and "empathy_waiting 0.0" in counted


def test_each_question_is_answered_with_its_own_options(server, bot):
    def _ask(seed):
        return server.json(f"/v1/respond?seed={seed}&language=German&max_new_tokens={7 + seed % 2}", asked(1))

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(_ask, range(8)))
    for seed, (status, answer) in enumerate(answers):
        decoding = replace(DRAWN, max_new_tokens=7 + seed % 2, seed=seed)
        (alone,) = bot.respond(question(1), language="German", decoding=decoding)
        assert status == 200 and answer["text"] == alone.text


def test_a_client_that_stalls_costs_the_others_nothing(bot):
    """One sends half of a question, one takes nothing of its answer."""
    with serving(bot, Limits(batches=1, stall_seconds=1)) as running:
        half = socket.create_connection(("127.0.0.1", running.port))
        half.sendall(b"POST /v1/respond HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\nRIFF")
        deaf = socket.create_connection(("127.0.0.1", running.port))
        body = asked(1)
        head = f"POST /v1/respond HTTP/1.1\r\nHost: localhost\r\nAccept: multipart/mixed\r\nContent-Length: {len(body)}"
        deaf.sendall(f"{head}\r\n\r\n".encode() + body)
        for number in range(3):
            assert running.json("/v1/respond", asked(number))[0] == 200
        assert b" 408 " in half.recv(4_000)
        wait_until(lambda: running.service.metrics.open == 0)
        half.close()
        deaf.close()


def gated(bot, monkeypatch):
    """Let the bot wait before its first word; what lets it go on."""
    gate, write = threading.Event(), bot.responder.write
    monkeypatch.setattr(bot.responder, "write", lambda *arguments: gate.wait(30) and write(*arguments))
    return gate


def test_more_than_may_wait_are_told_when_to_come_again(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    limits = Limits(batch_size=1, batches=1, waiting=2)
    with serving(bot, limits) as running, ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(running.json, "/v1/respond", asked(0))]
        wait_until(lambda: running.service.engine.answering == 1)
        answers += [clients.submit(running.json, "/v1/respond", asked(number)) for number in (1, 2)]
        wait_until(lambda: running.service.engine.waiting == 2)
        status, headers, content = running.ask("/v1/respond", asked(3))
        assert status == 429 and 1 <= int(headers["retry-after"]) <= 60
        assert json.loads(content)["error"]["message"] == "2 questions are waiting: ask again later"
        gate.set()
        assert [answer.result()[0] for answer in answers] == [200] * 3
        assert running.json("/v1/respond", asked(3))[0] == 200


def test_who_waits_too_long_is_told_when_to_come_again(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    limits = Limits(batch_size=1, batches=1, wait_seconds=0.5)
    with serving(bot, limits) as running, ThreadPoolExecutor(1) as clients:
        first = clients.submit(running.json, "/v1/respond", asked(0))
        wait_until(lambda: running.service.engine.answering == 1)
        status, headers, content = running.ask("/v1/respond", asked(1))
        assert status == 503 and "retry-after" in headers and b"nobody could answer within 0.5 s" in content
        assert running.service.engine.waiting == 0
        gate.set()
        assert first.result()[0] == 200


def test_a_reply_that_takes_too_long_is_cut(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    with serving(bot, Limits(answer_seconds=0.3)) as running:
        status, answer = running.json("/v1/respond", asked(0))
        assert status == 200 and answer["interrupted"] and answer["fault"] == "it was cut after 0.3 s"
        gate.set()
        assert running.json("/v1/respond", asked(0))[0] == 200


def test_a_client_that_leaves_ends_its_work_and_nobody_else_s(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    with serving(bot, Limits(batches=1)) as running, ThreadPoolExecutor(1) as clients:
        other = clients.submit(running.json, "/v1/respond", asked(1))
        leaver = socket.create_connection(("127.0.0.1", running.port))
        body = asked(2)
        leaver.sendall(f"POST /v1/respond HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        leaver.sendall(body)
        wait_until(lambda: running.service.metrics.open == 2)
        leaver.close()
        wait_until(lambda: running.service.metrics.open == 1)
        gate.set()
        assert other.result()[1]["text"] == bot.respond(question(1), decoding=DRAWN)[0].text


def test_one_that_cannot_be_answered_takes_nobody_with_it(bot, monkeypatch):
    hear, fatal = bot.model.listener.forward, question(7)

    def _hear(batch, *rest, **more):
        if any(len(row) >= len(fatal) and torch.equal(row[: len(fatal)], fatal) for row in batch.waveform):
            raise RuntimeError("no memory is left")
        return hear(batch, *rest, **more)

    monkeypatch.setattr(bot.model.listener, "forward", _hear)
    start = threading.Barrier(6)

    def _ask(number):
        start.wait()
        return running.json("/v1/respond", asked(number))

    with serving(bot) as running, ThreadPoolExecutor(6) as clients:
        answers = list(clients.map(_ask, range(3, 9)))
        assert [status for status, _ in answers] == [200, 200, 200, 200, 500, 200]
        assert answers[4][1]["error"]["message"] == "this could not be answered; the server's log says why"


def test_the_end_waits_for_replies(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    with serving(bot) as running, ThreadPoolExecutor(1) as clients, running.live() as silent:
        silent.recv()
        answer = clients.submit(running.json, "/v1/respond", asked(0))
        wait_until(lambda: running.service.engine.answering == 1)
        running.end()
        wait_until(lambda: running.service.engine.closed)
        assert running.json("/health") == (503, {"status": "ending", "waiting": 0, "answering": 1})
        status, headers, _ = running.ask("/v1/respond", asked(1))
        assert status == 503 and "retry-after" in headers
        time.sleep(0.3)
        assert not answer.done()
        gate.set()
        assert answer.result()[0] == 200 and answer.result()[1]["heard"]["emotion"] in EMOTIONS
