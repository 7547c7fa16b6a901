"""Live conversations: turns and their histories, barge-in, voices told from noise, and many at once."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus

from empathy_lightning.audio import read, resample
from empathy_lightning.decoding import Decoding
from empathy_lightning.serving import opus, voice_activity
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.opus import OpusDecoder
from empathy_lightning.serving.sound import pcm
from empathy_lightning.serving.voice_activity import Silero, Utterances
from tests.serving.conftest import DRAWN, question, serving
from tests.serving.test_engine import gated
from tests.test_streaming import wait_until


def say(socket, kind, **what):
    socket.send(json.dumps({"type": kind, **what}))


def ask(socket, number):
    sound = pcm(question(number))
    socket.send(sound[:5_000])
    socket.send(sound[5_000:])
    say(socket, "commit")


def until(socket, *kinds):
    """Messages up to one of some kinds, by their kinds, and the sound between them."""
    told, sound = {}, b""
    while not told.keys() & set(kinds):
        message = socket.recv(30)
        if isinstance(message, bytes):
            sound += message
        else:
            message = json.loads(message)
            told.setdefault(message["type"], []).append(message)
    return told, sound


def test_turns_of_a_conversation(server, bot):
    with server.live() as socket:
        told, _ = until(socket, "ready")
        assert told["ready"][0]["sample_rate"] == 8_000 and told["ready"][0]["emotions"] == bot.emotions
        say(socket, "settings", seed=4, max_new_tokens=6)
        history, decoding = [], replace(DRAWN, seed=4, max_new_tokens=6)
        for number in range(3):
            (alone,) = bot.respond(question(number), [history], decoding=decoding)
            history.append(alone.turn)
            ask(socket, number)
            told, sound = until(socket, "reply")
            assert told["heard"][0]["emotion"] == alone.emotion and told["heard"][0]["turn"] == number + 1
            assert "".join(piece["text"] for piece in told["text"]) == told["reply"][0]["text"] == alone.text
            assert np.abs(np.frombuffer(sound, "<i2") / 32_767 - alone.waveform.numpy()).max() < 1e-3
        say(socket, "forget")
        ask(socket, 2)
        assert until(socket, "reply")[0]["reply"][0]["text"] == bot.respond(question(2), decoding=decoding)[0].text
        say(socket, "settings", sample_rate=8_000, aloud=False)
        socket.send(pcm(question(5)[::2]))
        say(socket, "commit")
        assert until(socket, "reply")[1] == b""


def test_conversations_at_once_do_not_know_each_other(server, bot):
    def _talk(seed):
        texts = []
        with server.live() as socket:
            say(socket, "settings", seed=seed)
            for turn in range(3):
                ask(socket, 10 * seed + turn)
                texts.append(until(socket, "reply")[0]["reply"][0]["text"])
        return texts

    with ThreadPoolExecutor(8) as clients:
        texts = list(clients.map(_talk, range(8)))
    for seed, said in enumerate(texts):
        history = []
        for turn, text in enumerate(said):
            (alone,) = bot.respond(question(10 * seed + turn), [history], decoding=replace(DRAWN, seed=seed))
            history.append(alone.turn)
            assert text == alone.text


def test_barge_in_ends_a_reply_where_it_was_heard(bot, monkeypatch):
    """Of what was made faster than it was played, only what was played was said."""
    long = Decoding(60, temperature=3.0, seed=2, units_per_token=4)
    monkeypatch.setattr(type(bot.responder.language_model), "stop_ids", set())
    with serving(bot, decoding=long) as running, running.live() as socket:
        until(socket, "ready")
        ask(socket, 1)
        told, sound = until(socket, "reply")
        whole, seconds = told["reply"][0]["text"], len(sound) / 16_000
        say(socket, "interrupt", played=seconds / 4)
        (end,) = until(socket, "interrupted")[0]["interrupted"]
        assert whole.startswith(end["said"]) and 0 < len(end["said"]) < len(whole)
        # What was said is what the next question finds in the history.
        (first,) = bot.respond(question(1), decoding=long)
        (alone,) = bot.respond(question(2), [[replace(first.turn, reply=end["said"])]], decoding=long)
        ask(socket, 2)
        assert until(socket, "reply")[0]["reply"][0]["text"] == alone.text


def test_barge_in_ends_the_work(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    with serving(bot) as running, running.live() as socket:
        ask(socket, 1)
        until(socket, "heard")
        say(socket, "interrupt")
        (end,) = until(socket, "interrupted")[0]["interrupted"]
        assert end["interrupted"] and end["text"] == end["said"] == ""
        gate.set()
        wait_until(lambda: running.service.engine.answering == 0)
        # A question that comes while one is being answered takes its place.
        ask(socket, 1)
        ask(socket, 2)
        told = until(socket, "reply")[0]
        assert told["reply"][0]["turn"] == 3 or until(socket, "reply")[0]["reply"][0]["turn"] == 3


def voice(seconds, rate=16_000):
    """A voice of 150 Hz that swells as syllables do, over a little noise."""
    time = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 150 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return 0.1 * tone * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)) + noise(seconds, rate)


def noise(seconds, rate=16_000, level=0.002):
    return level * np.random.default_rng(0).standard_normal(round(seconds * rate))


def as_pcm(samples):
    return pcm(torch.from_numpy(samples))


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("level", [0.0, 0.002, 0.01])
def test_what_is_said_is_cut_out_of_silence_and_noise(rate, level):
    quiet = [noise(seconds, rate, level) for seconds in (2, 0.3, 1.5, 1)]
    spoken = [voice(seconds, rate) for seconds in (0.8, 0.5, 1.2)]
    sound = as_pcm(np.concatenate([quiet[0], spoken[0], quiet[1], spoken[1], quiet[2], spoken[2], quiet[3]]))
    listening, events = Utterances(rate, 60), []
    for start in range(0, len(sound), 1_234):
        events += listening.push(sound[start : start + 1_234])
    assert [event is None for event in events] == [True, False, True, False] and not listening.speaking
    # A short pause belongs to what is said; 0.3 s before it and 0.7 s behind it are kept.
    seconds = [len(event) / 2 / rate for event in events[1::2]]
    assert seconds == pytest.approx([0.8 + 0.3 + 0.5 + 1.0, 1.2 + 1.0], abs=0.2)


def test_a_network_knows_speech_from_other_loud_things(speech_folder):
    pytest.importorskip("silero_vad")
    (recording,) = (speech_folder / "ravdess").rglob("03-01-01-01-01-01-01.flac")
    spoken = read(recording).numpy()
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    stream = as_pcm(np.concatenate([noise(1), tone, noise(1), spoken, noise(1)]))
    events = list(Utterances(16_000, 60, Silero(16_000)).push(stream))
    assert [event is None for event in events] == [True, False]
    # Its words are 1.3 s, from 1.05 s of the recording on.
    assert len(events[1]) / 32_000 == pytest.approx(1.3 + 0.3 + 0.7, abs=0.3)
    # Energy takes the tone for speech.
    assert list(Utterances(16_000, 60).push(stream[: 2 * 64_000]))


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_network_hears_other_rates(speech_folder, rate):
    pytest.importorskip("silero_vad")
    (recording,) = (speech_folder / "ravdess").rglob("03-01-01-01-01-01-01.flac")
    spoken = resample(read(recording), 16_000, rate)
    events = list(Utterances(rate, 60, Silero(rate)).push(pcm(spoken)))
    assert [event is None for event in events] == [True, False]


def packed(sound):
    """A waveform at 16 kHz, shape (T,), as Opus packets of 20 ms."""
    av = pytest.importorskip("av")
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format, encoder.bit_rate = 48_000, "mono", "s16", 64_000
    samples = np.frombuffer(pcm(resample(sound, 16_000, 48_000)), "<i2")
    packets = []
    for start in range(0, len(samples) - 959, 960):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)]]


def test_opus_is_unpacked():
    sound = torch.from_numpy(voice(1.0)).float()
    decoder = OpusDecoder()
    heard = np.frombuffer(b"".join(decoder.push(packet) for packet in packed(sound)), "<i2") / 32_768
    assert len(heard) == pytest.approx(16_000, abs=700)
    # It comes a few milliseconds late.
    likeness = [np.corrcoef(heard[late : late + 12_000], sound.numpy()[:12_000])[0, 1] for late in range(400)]
    assert max(likeness) > 0.98


def test_a_conversation_in_opus(server):
    with server.live() as socket:
        say(socket, "settings", format="opus", voice_activity="energy")
        for packet in packed(torch.from_numpy(np.concatenate([noise(0.5), voice(0.8), noise(1)])).float()):
            socket.send(packet)
        told, sound = until(socket, "reply")
        assert told["speech_ended"] and told["heard"] and len(sound) > 8_000
        socket.send(b"\xff" * 5)
        assert "this is no Opus packet" in until(socket, "error")[0]["error"][0]["message"]
        say(socket, "settings", format="pcm16", sample_rate=16_000, voice_activity=False)
        ask(socket, 1)
        assert until(socket, "reply")[0]["reply"]


@pytest.mark.parametrize(
    ("module", "wanted"), [(opus, {"format": "opus"}), (voice_activity, {"voice_activity": "silero"})]
)
def test_what_the_server_has_not_is_said(server, monkeypatch, module, wanted):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with server.live() as socket:
        say(socket, "settings", **wanted)
        assert "empathy_lightning[live]" in until(socket, "error")[0]["error"][0]["message"]
        ask(socket, 1)
        assert until(socket, "reply")[0]["reply"]


def test_a_click_is_no_speech_and_endless_speech_is_cut():
    listening = Utterances(16_000, 2)
    click = np.concatenate([noise(1), 0.8 * np.ones(800), noise(1)])
    assert list(listening.push(as_pcm(click))) == []
    events = list(listening.push(as_pcm(voice(5))))
    assert [event is None for event in events[:3]] == [True, False, True] and len(events[1]) <= 2 * 16_000 * 2


def test_speech_is_answered_and_interrupts(server):
    with server.live() as socket:
        say(socket, "settings", voice_activity=True)
        stream = as_pcm(np.concatenate([noise(0.5), voice(0.8), noise(1)]))
        for start in range(0, len(stream), 3_200):
            socket.send(stream[start : start + 3_200])
        told, sound = until(socket, "reply")
        assert told["speech_began"] and told["speech_ended"] and told["heard"]
        assert len(sound) > 8_000
        for start in range(0, len(stream), 3_200):
            socket.send(stream[start : start + 3_200])
        told, _ = until(socket, "reply")
        assert told["interrupted"][0]["turn"] == 1 and told["reply"][0]["turn"] == 2
        assert len(told["interrupted"][0]["said"]) <= len(told["reply"][0]["text"]) + 100


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{", "a message is sound, or a JSON object with a type"),
        ("[1]", "a message is sound, or a JSON object with a type"),
        ('{"type": "dance"}', "the type is one of settings, commit, interrupt, forget"),
        ('{"type": "commit"}', "what was said: 0.00 s is too short"),
        ('{"type": "settings", "sample_rate": 1}', "sample_rate has to be 8000 to 48000 Hz"),
        ('{"type": "settings", "format": "mp3"}', "format has to be one of pcm16, opus"),
        ('{"type": "settings", "voice_activity": "luck"}', "voice_activity has to be one of energy, silero"),
        ('{"type": "settings", "sed": 1}', "sed is no option; did you mean seed?"),
        (bytes(70_000), "at most 2 s of speech can be answered"),
    ],
)
def test_a_message_that_cannot_be_used_ends_no_conversation(bot, message, reason):
    with serving(bot, Limits(seconds=2)) as running, running.live() as socket:
        socket.send(message)
        (told,) = until(socket, "error")[0]["error"]
        assert reason in told["message"] and told["status"] == 400
        ask(socket, 1)
        assert until(socket, "reply")[0]["reply"]


def test_who_may_not_come_in(bot):
    with serving(bot, Limits(conversations=1), token="s3cret") as running:
        with pytest.raises(InvalidStatus, match="403"):
            running.live()
        authorised = {"Authorization": "Bearer s3cret"}
        with pytest.raises(InvalidStatus, match="403"):
            running.live(additional_headers=authorised, origin="https://elsewhere.example")
        with running.live(subprotocols=["empathy", "bearer.s3cret"]) as socket:
            assert socket.subprotocol == "empathy" and until(socket, "ready")
            with running.live(additional_headers=authorised) as second, pytest.raises(ConnectionClosed, match="1013"):
                second.recv()
        wait_until(lambda: not running.service.conversations.locked())
        with running.live(additional_headers=authorised) as third:
            assert until(third, "ready")


def test_the_end_of_the_server_comes_after_that_of_the_reply(bot, monkeypatch):
    gate = gated(bot, monkeypatch)
    with serving(bot) as running, running.live() as socket:
        ask(socket, 1)
        until(socket, "heard")
        running.end()
        wait_until(lambda: running.service.engine.closed)
        time.sleep(0.2)
        gate.set()
        assert until(socket, "reply")[0]["reply"][0]["text"]
        with pytest.raises(ConnectionClosed, match="1012"):
            socket.recv()
