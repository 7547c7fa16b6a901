"""Where speech ends otherwise than it should: slow programs, vocoders without a sound, and who waits for them."""

import copy
import json
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.chatbot import AudioBlock, EmpatheticChatbot, TextPiece
from empathy_lightning.checkpoints import save
from empathy_lightning.decoding import Decoding
from empathy_lightning.modules.vocoders.http import HttpVocoder
from empathy_lightning.modules.vocoders.process import ProcessVocoder
from empathy_lightning.modules.vocoders.wire import Greeting, answer
from empathy_lightning.talker import Talker
from empathy_lightning.utterance import EMOTIONS
from tests.modules.vocoders.test_external import FAKE
from tests.test_streaming import DRAWN, QUESTION, Beeps, Breaks, Stalls, at_work, decoder_of, wait_until
from tests.tiny import spoken


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(spoken(model, EMOTIONS, decoder_of(model), Beeps()))


def speaking(bot, vocoder, patience=60.0):
    bot.model.talker = Talker(bot.model.talker.speech_decoder, vocoder, patience)
    return bot


@pytest.fixture
def program(tmp_path):
    """Makes vocoders of a small program that begins as the others' tests have it."""
    made = []

    def _program(body):
        file = tmp_path / f"{len(made)}.py"
        file.write_text(FAKE + body)
        made.append(ProcessVocoder([sys.executable, "-I", str(file)], 100))
        return made[-1]

    yield _program
    for vocoder in made:
        vocoder.stop()


ANSWERS = "while True:\n    request = asked()\n    answer(0 if request['cancel'] else {})\n"


def test_a_program_that_loads_for_longer_than_patience_speaks_the_first_reply(bot, program):
    vocoder = program(f"time.sleep(1.5); greet()\n{ANSWERS.format(5)}")
    (reply,) = speaking(bot, vocoder, patience=1.0).respond(QUESTION, decoding=DRAWN)
    assert reply.fault is None and len(reply.waveform) > 0


def test_units_without_a_sample_are_a_fault_and_the_text_stands(bot, program):
    (reply,) = speaking(bot, program(f"greet()\n{ANSWERS.format(0)}")).respond(QUESTION, decoding=DRAWN)
    assert reply.waveform is None and len(reply.text) > 5 and reply.turn.reply == reply.text
    assert reply.fault == f"ProcessVocoder gives no sound for the {len(reply.units)} units of a reply"


def test_a_copy_of_a_bot_starts_a_program_of_its_own(bot, program):
    speaking(bot, program(f"greet()\n{ANSWERS.format(5)}"))
    (said,) = bot.respond(QUESTION, decoding=DRAWN)
    twin = EmpatheticChatbot(copy.deepcopy(bot.model))
    (again,) = twin.respond(QUESTION, decoding=DRAWN)
    assert again.fault is None and torch.equal(again.waveform, said.waveform)
    assert twin.model.talker.vocoder.line() is not bot.model.talker.vocoder.line()
    twin.model.talker.vocoder.stop()


def test_the_end_does_not_wait_for_a_vocoder_that_speaks_on(bot):
    vocoder, asked = Stalls(), threading.Event()
    vocoder.register_forward_pre_hook(lambda *_: asked.set())
    stream = speaking(bot, vocoder).stream(QUESTION, decoding=DRAWN)
    assert asked.wait(20)
    reply = stream.cancel()
    # It would speak for half a minute more.
    assert [thread.name for thread in at_work()] == ["speaking"] and reply.interrupted
    vocoder.gone.set()
    wait_until(lambda: not at_work())


def test_a_server_that_does_not_answer_a_farewell_is_not_waited_for(bot):
    asked, held = [], threading.Event()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            self.said(Greeting(100, 8).line())

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, b'"cancel": true' in body))
            if asked[-1][1]:
                held.wait(20)
            self.said(answer(torch.zeros(5)))

        def said(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    vocoder = HttpVocoder(f"http://127.0.0.1:{server.server_port}/say?key=1", 100)
    stream = speaking(bot, vocoder).stream(QUESTION, decoding=Decoding(200, temperature=3.0, seed=2))
    while not isinstance(next(stream), AudioBlock):
        pass
    stream.cancel()
    wait_until(lambda: not at_work(), seconds=10)
    held.set()
    server.shutdown()
    server.server_close()
    assert asked[-1] == ("/say?key=1", True) and {path for path, _ in asked} == {"/say?key=1"}


def test_after_a_fault_the_text_that_was_read_is_what_was_said(bot):
    stream = speaking(bot, Breaks()).stream(QUESTION, decoding=Decoding(60, temperature=3.0, seed=2))
    read = ""
    while stream.reply.fault is None or len(read) < 5:
        event = next(stream)
        read += event.text if isinstance(event, TextPiece) else ""
    reply = stream.cancel()
    assert reply.turn.reply == reply.text == read and reply.fault is not None


def test_the_consumer_s_own_time_is_no_work(bot):
    began = time.monotonic()
    stream = bot.stream(QUESTION, decoding=DRAWN)
    # All of it waits to be taken.
    wait_until(lambda: not at_work())
    made = time.monotonic() - began
    *_, reply = stream
    assert 0 < reply.timings.real_time_factor * len(reply.waveform) / 8_000 < made


class Fails(torch.nn.Module):
    """A speech decoder that raises once it has written, while its vocoder holds a reply open."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder, self.num_units = decoder, 8

    def begin(self, *how):
        units = self.decoder.begin(*how)
        write = units.write

        def _write():
            yield from write()
            raise RuntimeError("the decoder broke")

        units.write = _write
        return units


class Open(Beeps):
    """Counts the replies that are open."""

    now = 0

    def begin(self):
        self.now += 1
        return Opened(self)


class Opened:
    def __init__(self, vocoder):
        self.vocoder, self.open = vocoder, True

    def push(self, units):
        return self.vocoder(units[None])[0]

    def end(self):
        return torch.zeros(0)

    def close(self):
        self.vocoder.now -= self.open
        self.open = False


def test_what_raises_while_it_speaks_leaves_no_reply_open(bot):
    vocoder = Open()
    bot.model.talker = Talker(Fails(bot.model.talker.speech_decoder), vocoder)
    with pytest.raises(RuntimeError, match="the decoder broke"):
        bot.respond(QUESTION, decoding=DRAWN)
    wait_until(lambda: not at_work())
    assert vocoder.now == 0


def test_speech_that_does_not_end_by_itself_is_told(bot, corpus, tmp_path, capsys):
    endless = Decoding(24, temperature=3.0, seed=2, unit_temperature=0.0, units_per_token=1.0)
    cut, whole = (bot.respond(QUESTION, decoding=decoding)[0] for decoding in (endless, DRAWN))
    assert cut.speech_cut and not whole.speech_cut and cut.text == whole.text
    bot.model.talker = None
    assert not bot.respond(QUESTION, decoding=endless)[0].speech_cut
    bot.model.talker = Talker(decoder_of(bot.model), Beeps())
    save(tmp_path / "bot", bot.model)
    words = [
        "chat",
        str(corpus.parent / "0.wav"),
        "--checkpoint",
        str(tmp_path / "bot"),
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--trust=tests", "--temperature=3", "--max_new_tokens=24"]
    assert main([*words, "--unit_temperature=0", "--units_per_token=1"]) == 0
    assert "was cut at --units_per_token" in capsys.readouterr().out
    (spoken_entry,) = json.loads((tmp_path / "out" / "replies.json").read_text())
    assert main([*words, "--speech=false", "--again"]) == 0
    (entry,) = json.loads((tmp_path / "out" / "replies.json").read_text())
    assert spoken_entry["speech_cut"] and spoken_entry["speech"] and entry["text"] == spoken_entry["text"]
    assert (entry["units"], entry["speech"], entry["speech_cut"]) == (None, None, False)
