"""Replies that are given out while they are made: the same as whole ones, ended at any time, and what can go wrong."""

import gc
import json
import os
import subprocess
import sys
import threading
import time

import pytest
import soundfile
import torch
from torch import nn

from empathy_lightning.__main__ import main
from empathy_lightning.chatbot import AudioBlock, EmpatheticChatbot, Reply, TextPiece, Turn
from empathy_lightning.checkpoints import save
from empathy_lightning.data.batch import batch_of
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.talker import Talker
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken, writes

DRAWN = Decoding(24, temperature=3.0, seed=2)
QUESTION = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))


class Beeps(nn.Module):
    """A vocoder that can speak in blocks."""

    def __init__(self, num_units: int = 8) -> None:
        super().__init__()
        self.num_units = num_units
        self.sample_rate = 8_000
        self.samples_per_unit, self.context = 100, 2
        self.sounds = nn.Embedding(num_units, 100)

    def forward(self, units):
        return self.sounds(units).tanh().flatten(1)


class Breaks(Beeps):
    """Speaks once."""

    calls = 0

    def forward(self, units):
        self.calls += 1
        if self.calls > 1:
            raise OSError("the device\nis gone")
        return super().forward(units)


class Refuses(Beeps):
    def forward(self, units):
        raise VocoderError("the vocoder's process has died: start it again")


class Rumbles(Beeps):
    def forward(self, units):
        return super().forward(units) * torch.nan


class Guesses(Beeps):
    """Does not say how many units it knows."""

    def __init__(self) -> None:
        super().__init__(2)
        self.num_units = None


class Stalls(Beeps):
    """Does not come back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = threading.Event()

    def forward(self, units):
        self.gone.wait(30)
        return super().forward(units)


def decoder_of(model, num_units=8):
    torch.manual_seed(1)
    size = len(model.responder.language_model.tokenizer)
    return SpeechDecoder(32, size, 0, num_units=num_units, body=Qwen2Body(16, 1, 2)).eval()


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(spoken(model, EMOTIONS, decoder_of(model), Beeps()))


def at_work():
    return [thread for thread in threading.enumerate() if thread.name in ("writing", "speaking")]


def wait_until(holds, seconds=20):
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    assert holds()


def gated(bot, monkeypatch, tokens):
    """Let the language model wait once some tokens are said; what lets it go on, and the pieces that it wrote."""
    gate, written, write = threading.Event(), [], bot.responder.write

    def _write(prompts, decoding, seeds, told):
        def _told(pieces):
            before = sum(len(piece.tokens) for piece in written)
            written.append(pieces[0])
            assert before < tokens or gate.wait(20)
            return told(pieces)

        return write(prompts, decoding, seeds, _told)

    monkeypatch.setattr(bot.responder, "write", _write)
    return gate, written


def test_a_stream_is_the_whole_reply_in_pieces(bot):
    events = list(bot.stream(QUESTION, decoding=DRAWN))
    *pieces, reply = events
    assert isinstance(reply, Reply) and len(reply.text) > 5 and len(reply.units) > 30
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextPiece)) == reply.text
    blocks = [piece for piece in pieces if isinstance(piece, AudioBlock)]
    assert len(blocks) > 2 and {block.sample_rate for block in blocks} == {8_000}
    assert torch.equal(torch.cat([block.waveform for block in blocks]), reply.waveform)
    assert torch.equal(bot.model.talker.vocoder(torch.tensor([reply.units]))[0], reply.waveform)
    (whole,) = bot.respond(QUESTION, decoding=DRAWN)
    assert (whole.text, whole.units, whole.emotion, whole.cut) == (reply.text, reply.units, reply.emotion, reply.cut)
    assert torch.equal(whole.waveform, reply.waveform) and whole.turn.reply == reply.text
    for timings in (reply.timings, whole.timings):
        assert 0 < timings.first_text <= timings.first_audio
        assert timings.first_audio < timings.real_time_factor * len(reply.waveform) / 8_000
    assert not (reply.interrupted or reply.fault or at_work())


def test_the_first_sound_comes_after_the_tokens_that_the_decoder_reads(bot, monkeypatch):
    gate, written = gated(bot, monkeypatch, tokens=3)
    blocks = []
    for event in bot.stream(QUESTION, decoding=DRAWN):
        if isinstance(event, AudioBlock):
            blocks.append(len(event.waveform))
            gate.set()
    # Of fifteen units, the last two wait for their context. Half a character is no token that is read.
    assert blocks[0] == 1_300 and sum(blocks) == 100 * len(event.units)
    assert sum(len(piece.tokens) for piece in written) > 9


def test_the_language_model_goes_on_while_the_talker_speaks(bot, monkeypatch):
    hold, whole = threading.Event(), Beeps.forward
    monkeypatch.setattr(Beeps, "forward", lambda self, units: hold.wait(20) and whole(self, units))
    text = ""
    stream = bot.stream(QUESTION, decoding=DRAWN)
    while len(text) < 8:
        text += next(stream).text
    hold.set()
    reply = stream.drained()[0]
    assert reply.text.startswith(text) and len(reply.waveform) > 0


def test_what_was_not_said_does_not_enter_the_history(bot, monkeypatch):
    whole = bot.respond(QUESTION, decoding=DRAWN)[0].text
    gate, written = gated(bot, monkeypatch, tokens=9)
    with bot.stream(QUESTION, decoding=DRAWN) as stream:
        heard = next(event for event in stream if isinstance(event, AudioBlock))
        steps = len(written)
        threading.Timer(0.2, gate.set).start()
        reply = stream.cancel()
    # The step that was being told when it was cancelled was the last one.
    assert len(written) <= steps + 1 or steps < 10
    assert not at_work() and list(stream) == []
    assert reply.interrupted and torch.equal(reply.waveform, heard.waveform) and reply.emotion in EMOTIONS
    said, tokens = "", 0
    for piece in written:
        said, tokens = said + piece.text, tokens + len(piece.tokens)
        if tokens >= 3:
            break
    assert reply.turn.reply == said.rstrip() and 0 < len(said) < len(whole)
    assert whole.startswith(reply.text) and torch.equal(reply.turn.speech, stream.replies[0].turn.speech)
    monkeypatch.undo()
    assert bot.respond(QUESTION, [[reply.turn]], decoding=DRAWN)[0].text


def test_before_the_first_sound_nothing_was_said(bot):
    stream = bot.stream(QUESTION, decoding=DRAWN)
    text = next(stream).text
    reply = stream.cancel()
    assert reply.text == text and reply.waveform is None and reply.interrupted and reply.turn.reply == ""


def test_without_a_voice_the_text_that_was_taken_is_what_was_said(model):
    bot = EmpatheticChatbot(spoken(model, EMOTIONS))
    stream = bot.stream(QUESTION, decoding=DRAWN)
    text = next(stream).text + next(stream).text
    reply = stream.cancel()
    assert reply.interrupted and reply.turn.reply == reply.text == text and reply.waveform is None


def test_a_consumer_that_stops_reading_stops_the_work(bot, monkeypatch):
    calls = []
    bot.model.talker.vocoder.register_forward_hook(lambda *_: calls.append(0))
    monkeypatch.setattr(type(bot.responder.language_model), "stop_ids", set())
    written = gated(bot, monkeypatch, tokens=1_000)[1]
    stream = bot.stream(QUESTION, decoding=Decoding(400, temperature=3.0, seed=2))
    next(stream)
    reached = (-1, -1)
    while reached != (reached := (len(written), len(calls))):
        time.sleep(1)
    assert len(written) < 200 and len(at_work()) == 2
    reply = stream.cancel()
    assert not at_work() and len(written) < 200 and reply.interrupted


def test_a_stream_that_nobody_holds_ends(bot):
    stream = bot.stream(QUESTION, decoding=DRAWN)
    next(stream)
    assert at_work()
    del stream
    wait_until(lambda: not at_work())
    loop = [bot.stream(QUESTION, decoding=DRAWN)]
    loop.append(loop)
    next(loop[0])
    del loop
    gc.collect()
    wait_until(lambda: not at_work())


def test_it_can_be_cancelled_from_another_thread_while_it_is_awaited(bot, monkeypatch):
    gate, _ = gated(bot, monkeypatch, tokens=2)
    stream = bot.stream(QUESTION, decoding=DRAWN)
    canceller = threading.Timer(0.2, lambda: (threading.Timer(0.2, gate.set).start(), stream.cancel()))
    canceller.start()
    events = list(stream)
    canceller.join()
    assert stream.reply not in events and stream.reply.interrupted and not at_work()


def test_one_reply_of_a_batch_is_left_and_the_others_go_on(bot, monkeypatch):
    questions = [QUESTION, QUESTION.flip(0), QUESTION.roll(4_000)]
    alone = bot.respond(questions, decoding=DRAWN)
    batch = batch_of(questions, bot.emotions)
    stream = bot.model.stream(batch, DRAWN)
    gone = next(event.row for event in stream if isinstance(event, AudioBlock))
    left = stream.leave(gone)
    events = list(stream)
    assert left.interrupted and left.turn.reply and alone[gone].text.startswith(left.turn.reply)
    assert gone not in {getattr(event, "row", None) for event in events} and left not in events
    for row in {0, 1, 2} - {gone}:
        reply = stream.replies[row]
        assert (reply.text, reply.units, reply.interrupted) == (alone[row].text, alone[row].units, False)
        assert reply in events
    assert stream.leave(gone) is left and not at_work()
    # Where all are left, nobody has to take what was made of them.
    monkeypatch.setattr(type(bot.responder.language_model), "stop_ids", set())
    stream = bot.model.stream(batch, Decoding(400, temperature=3.0, seed=2))
    next(stream)
    time.sleep(0.5)
    assert all(stream.leave(row).interrupted for row in range(3)) and list(stream) == []
    wait_until(lambda: not at_work())


def test_cancelled_streams_leave_nothing_behind(bot):
    def _left():
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    def _cancel(count):
        for number in range(count):
            stream = bot.stream(QUESTION, decoding=DRAWN)
            for _ in range(number % 5):
                next(stream)
            stream.cancel()

    _cancel(2)
    before = _left()
    _cancel(20)
    assert _left() <= before and not at_work()


def test_streams_at_once_do_not_disturb_each_other(bot):
    other = QUESTION.flip(0)
    alone = [list(bot.stream(question, decoding=DRAWN))[-1] for question in (QUESTION, other)]
    streams = [bot.stream(question, decoding=DRAWN) for question in (QUESTION, other)]
    next(streams[0])
    together = [stream.drained()[0] for stream in reversed(streams)][::-1]
    for one, reply in zip(alone, together, strict=True):
        assert (reply.text, reply.units) == (one.text, one.units) and torch.equal(reply.waveform, one.waveform)


LEAVES = """
import sys
import torch
from tests.test_streaming import Stalls
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding

bot = EmpatheticChatbot.from_pretrained(sys.argv[1], "cpu", ["tests"])
stream = bot.stream(torch.randn(16_000), decoding=Decoding(24, temperature=3.0))
print(len(next(stream).text))
"""


def test_a_program_that_ends_leaves_its_streams(bot, tmp_path):
    save(tmp_path, bot.model)
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", LEAVES, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert run.returncode == 0 and run.stdout.strip().isdigit(), run.stderr


@pytest.mark.parametrize(
    ("vocoder", "fault", "sounds"),
    [
        (Breaks, "the vocoder failed: OSError: the device is gone", True),
        (Refuses, "the vocoder's process has died: start it again", False),
        (Rumbles, "Rumbles gives a sound that is not finite", False),
        (Guesses, "the vocoder failed: IndexError: index out of range in self", False),
    ],
)
def test_where_the_vocoder_fails_the_text_goes_on(bot, vocoder, fault, sounds):
    (whole,) = bot.respond(QUESTION, decoding=DRAWN)
    bot.model.talker = Talker(bot.model.talker.speech_decoder, vocoder())
    *_, reply = bot.stream(QUESTION, decoding=DRAWN)
    assert reply.text == whole.text and reply.turn.reply == whole.text and not reply.interrupted
    assert reply.fault == fault and not at_work()
    assert (reply.waveform is not None) is sounds and (reply.timings.first_audio is not None) is sounds
    if sounds:
        bot.model.talker.vocoder.calls = 0
        assert bot.respond(QUESTION, decoding=DRAWN)[0].fault == fault
        assert len(reply.waveform) == 1_300 and reply.units == whole.units[: len(reply.units)]


def test_where_the_vocoder_stalls_the_text_goes_on(bot):
    (whole,) = bot.respond(QUESTION, decoding=DRAWN)
    vocoder = Stalls()
    bot.model.talker = Talker(bot.model.talker.speech_decoder, vocoder, patience=0.3)
    *_, reply = bot.stream(QUESTION, decoding=DRAWN)
    assert reply.text == whole.text and reply.waveform is None and not reply.interrupted
    assert reply.fault == "the vocoder stalled: it gave nothing for 0.3 s"
    stream = bot.stream(QUESTION, decoding=DRAWN)
    next(stream)
    assert stream.cancel().interrupted
    vocoder.gone.set()
    wait_until(lambda: not at_work())


def test_states_that_are_not_finite_end_a_reply(bot):
    """One of two: it says why it ends, and the other is what it is alone."""
    (alone,) = bot.respond(QUESTION, decoding=DRAWN)
    broken = [Turn(torch.full((3, 32), torch.nan), torch.zeros(32), "What?")]
    mute, reply = bot.respond([QUESTION, QUESTION], [broken, []], decoding=DRAWN)
    assert (reply.text, reply.units, reply.fault) == (alone.text, alone.units, None)
    assert mute.fault == "the language model's hidden states are not finite: load it in bfloat16 or float32"
    assert (mute.text, mute.units, mute.waveform) == ("", None, None)
    with pytest.raises(InputError, match="hidden states are not finite"):
        bot.model.talker.speak(torch.full((2, 32), torch.inf), [1, 2])


def test_replies_of_no_word_and_of_one(bot, monkeypatch):
    writes(monkeypatch, ["", " ", "\n\n<|im_end|>", "a"])
    for _ in range(3):
        (reply,) = bot.stream(QUESTION)
        assert (reply.text, reply.units, reply.waveform, reply.turn.reply) == ("", None, None, "")
        assert reply.timings.first_text is reply.timings.real_time_factor is None
    *_, reply = bot.stream(QUESTION)
    assert reply.text == "a" and len(reply.waveform) == 100 * len(reply.units) > 0


def test_a_reply_that_does_not_end_is_cut(bot, monkeypatch):
    monkeypatch.setattr(type(bot.responder.language_model), "stop_ids", set())
    *_, reply = bot.stream(QUESTION, decoding=Decoding(9, temperature=3.0))
    assert reply.cut and len(reply.units) <= 3 * 15 + 1_500 and not reply.interrupted
    assert reply.units == bot.respond(QUESTION, decoding=Decoding(9, temperature=3.0))[0].units


def test_a_fault_of_a_network_is_raised_where_the_reply_is_awaited(bot):
    def _fails(*_):
        raise RuntimeError("no memory is left")

    networks = (bot.responder.language_model.decoder.layers[0], bot.model.talker.speech_decoder.fused)
    for network in networks:
        hook = network.register_forward_pre_hook(_fails)
        with pytest.raises(RuntimeError, match="no memory is left"):
            list(bot.stream(QUESTION, decoding=DRAWN))
        hook.remove()
        assert not at_work()
    assert bot.respond(QUESTION, decoding=DRAWN)[0].units


def test_a_vocoder_of_other_units_is_refused(bot, corpus, tmp_path, capsys):
    with pytest.raises(InputError, match="writes 8 units, but the vocoder knows 9"):
        Talker(bot.model.talker.speech_decoder, Beeps(9))
    save(tmp_path / "bot", bot.model)
    config = tmp_path / "bot" / "config.json"
    told = json.loads(config.read_text())
    told["model"]["init_args"]["talker"]["init_args"]["vocoder"]["init_args"]["num_units"] = 9
    config.write_text(json.dumps(told))
    file = str(corpus.parent / "0.wav")
    words = ["chat", file, "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "out"), "--trust=tests"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "writes 8 units, but the vocoder knows 9" in line and len(line) <= 300


class Parrot(nn.Module):
    """A speech decoder of somebody's own: two units for each token, when it is there."""

    def begin(self, count, decoding, seeds, stopped):
        return Chatter(count)


class Chatter:
    def __init__(self, count):
        self.waiting = [[] for _ in range(count)]

    def read(self, states, tokens, ended):
        for row, new in zip(self.waiting, tokens, strict=True):
            row += [unit for token in new.tolist() for unit in (token % 8, 1)]

    def write(self):
        new, self.waiting = self.waiting, [[] for _ in self.waiting]
        yield [torch.tensor(units, dtype=torch.long) for units in new]

    def drop(self, row):
        self.waiting[row] = []


def test_a_speech_decoder_of_somebody_s_own(bot):
    with pytest.raises(InputError, match="speech_decoder: Linear has no attribute 'begin'"):
        Talker(nn.Linear(1, 1))
    bot.model.talker = Talker(Parrot(), Beeps())
    *_, reply = bot.stream(QUESTION, decoding=DRAWN)
    assert reply.units[1::2] == [1] * (len(reply.units) // 2) and len(reply.waveform) == 100 * len(reply.units)
    assert len(reply.units) == 2 * 24


def chat(folder, files, out, *more):
    words = ["chat", *map(str, files), "--checkpoint", str(folder), "--out", str(out), "--trust=tests"]
    return main([*words, "--max_new_tokens=12", "--temperature=3", *more])


def test_chat_prints_a_reply_as_it_is_written(bot, corpus, tmp_path, capsys):
    save(tmp_path / "bot", bot.model)
    one, two = corpus.parent / "0.wav", corpus.parent / "1.wav"
    assert chat(tmp_path / "bot", [one], tmp_path / "one") == 0
    shown = capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "one" / "replies.json").read_text())
    assert shown.startswith(f"{one}\n  heard    ") and f"\n  reply    {entry['text']}\n  speech   " in shown
    timings = entry["timings"]
    assert 0 < timings["first_text"] <= timings["first_audio"] and timings["real_time_factor"] > 0
    sound, rate = soundfile.read(tmp_path / "one" / entry["speech"])
    assert rate == 8_000 and len(sound) > 0
    # Several files are answered together, and say the same.
    assert chat(tmp_path / "bot", [one, two], tmp_path / "two") == 0
    both = json.loads((tmp_path / "two" / "replies.json").read_text())
    assert shown.splitlines()[1:3] == capsys.readouterr().out.splitlines()[1:3]
    assert both[0]["text"] == entry["text"] and len(both) == 2
    assert chat(tmp_path / "bot", [one, two], tmp_path / "talk", "--conversation") == 0
    assert capsys.readouterr().out.count("\n  reply    ") == 2


def test_a_vocoder_that_fails_is_told_at_the_command_line(bot, corpus, tmp_path, capsys):
    bot.model.talker = Talker(bot.model.talker.speech_decoder, Refuses())
    save(tmp_path / "bot", bot.model)
    assert chat(tmp_path / "bot", [corpus.parent / "0.wav"], tmp_path / "out") == 0
    assert "\n  fault    the vocoder's process has died: start it again\n" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "out" / "replies.json").read_text())
    assert entry["text"] and entry["speech"] is None and "has died" in entry["fault"]
    words = ["respond", str(corpus), "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "r.jsonl")]
    assert main([*words, "--speech", "--max_new_tokens=12", "--temperature=3", "--trust=tests"]) == 2
    told = capsys.readouterr()
    assert "has died: start it again" in told.out + told.err and not (tmp_path / "r.jsonl").exists()
