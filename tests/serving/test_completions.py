"""The completions of OpenAI's clients: conversations in, text and sound out, whole and as they come."""

import json
from base64 import b64decode, b64encode
from dataclasses import replace

import pytest
import soundfile
import torch

from empathy_lightning.audio import SAMPLE_RATE, resample
from empathy_lightning.chatbot import Turn
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.sound import pcm, wave
from tests.serving.conftest import DRAWN, question, serving

PATH = "/v1/chat/completions"
SPOKEN = {"modalities": ["text", "audio"], "audio": {"voice": "own", "format": "wav"}}


def user(number, **more):
    data = b64encode(wave(question(number), SAMPLE_RATE)).decode()
    return {
        "role": "user",
        "content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}],
        **more,
    }


def assistant(words):
    return {"role": "assistant", "content": words}


def chunks(content):
    lines = [line for line in content.decode().split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_text_whole_and_as_it_comes(server, bot):
    (alone,) = bot.respond(question(1), decoding=replace(DRAWN, seed=5, temperature=2.0))
    asked = {"model": "tiny", "messages": [user(1)], "seed": 5, "temperature": 2, "n": 1, "user": "somebody"}
    status, told = server.json(PATH, asked)
    (choice,) = told["choices"]
    assert status == 200 and told["object"] == "chat.completion" and told["model"] == "tiny"
    assert choice["message"] == {"role": "assistant", "content": alone.text, "refusal": None}
    assert choice["finish_reason"] == ("length" if alone.cut else "stop") and told["heard"]["emotion"] == alone.emotion
    status, headers, content = server.ask(PATH, json.dumps({**asked, "stream": True}))
    first, *middle, last = chunks(content)
    assert status == 200 and headers["content-type"] == "text/event-stream"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle) == alone.text
    assert last["choices"][0]["delta"] == {} and last["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert {chunk["object"] for chunk in (first, *middle, last)} == {"chat.completion.chunk"}
    assert server.json("/v1/models")[1]["data"][0]["id"] == "tiny"


def test_sound_whole_and_as_it_comes(server, bot, tmp_path):
    (alone,) = bot.respond(question(1), decoding=DRAWN)
    _, told = server.json(PATH, {"messages": [user(1)], **SPOKEN})
    message = told["choices"][0]["message"]
    assert message["content"] is None and message["audio"]["transcript"] == alone.text
    (tmp_path / "a.wav").write_bytes(b64decode(message["audio"]["data"]))
    assert soundfile.info(tmp_path / "a.wav").frames == len(alone.waveform)
    asked = {"messages": [user(1)], "modalities": ["text", "audio"], "audio": {"format": "pcm16"}, "stream": True}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(server.ask(PATH, json.dumps(asked))[2])]
    heard = [delta["audio"] for delta in deltas if "audio" in delta]
    assert "".join(audio.get("transcript", "") for audio in heard) == alone.text
    assert len({audio["id"] for audio in heard}) == 1
    # What OpenAI calls pcm16 has 24 kHz, whatever the bot's own rate.
    sound = b"".join(b64decode(audio.get("data", "")) for audio in heard)
    whole = pcm(resample(alone.waveform, 8_000, 24_000))
    assert len(sound) == len(whole)
    apart = torch.frombuffer(bytearray(sound), dtype=torch.int16).int() - torch.frombuffer(
        bytearray(whole), dtype=torch.int16
    )
    assert apart.abs().max() <= 1


def test_a_conversation_is_heard_again(server, bot):
    first = bot.respond(question(1), decoding=DRAWN)[0]
    turns = [replace(first.turn, reply="I see."), Turn("Well.", "neutral", "Go on."), replace(first.turn, reply="Oh.")]
    (alone,) = bot.respond(question(3), [turns], decoding=DRAWN)
    messages = [user(1), assistant("I see."), {"role": "user", "content": "Well."}, assistant("Go on.")]
    messages += [user(1), assistant([{"type": "text", "text": "Oh."}]), user(3)]
    assert server.json(PATH, {"messages": messages})[1]["choices"][0]["message"]["content"] == alone.text
    assert alone.text != bot.respond(question(3), decoding=DRAWN)[0].text
    system = {"role": "system", "content": "Be brief."}
    bot.responder.system = "Be brief."
    (brief,) = bot.respond(question(3), decoding=DRAWN)
    bot.responder.system = None
    assert server.json(PATH, {"messages": [system, user(3)]})[1]["choices"][0]["message"]["content"] == brief.text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "messages has to be a list"),
        ({"messages": [1]}, "messages has to be a list of objects"),
        ({"messages": []}, "the last message has to be the user's, with input_audio"),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "the last message has to be the user's"),
        ({"messages": [user(1), assistant("I see.")]}, "the last message has to be the user's"),
        ({"messages": [user(1), user(1)]}, "message 2: user and assistant have to take turns"),
        ({"messages": [user(1), {"role": "assistant", "audio": {"id": "a"}}, user(1)]}, "message 2: give words"),
        ({"messages": [user(1), assistant("I see.")] * 3 + [user(1)]}, "the conversation is too long"),
        ({"messages": [user(1)], "tools": []}, "tools is no option"),
        ({"messages": [user(1)], "n": 2}, "n is no option"),
        ({"messages": [user(1)], "seed": True}, "seed 'True' is no int"),
        ({"messages": [user(1)], **SPOKEN, "stream": True}, "streamed audio has the format pcm16"),
        ({"messages": [user(1)], "modalities": ["video"]}, "modalities are"),
    ],
)
def test_what_is_no_conversation_is_refused_in_one_line(bot, asked, message):
    with serving(bot, Limits(turns=2)) as running:
        status, told = running.json(PATH, asked)
        assert status == 400 and message in told["error"]["message"]
        assert told["error"]["type"] == "invalid_request_error"


def test_audio_that_cannot_be_used_is_named_by_its_message(server):
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    told = server.json(PATH, {"messages": [user(1), assistant("I see."), {"role": "user", "content": [part]}]})
    assert told[0] == 400 and told[1]["error"]["message"].startswith("the recording in message 3: damaged")
    part["input_audio"]["data"] = "no base64!"
    told = server.json(PATH, {"messages": [{"role": "user", "content": [part]}]})
    assert told[1]["error"]["message"] == "message 1: its audio is not in base64"
    told = server.json(PATH, {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "And?"}]}]})
    assert "nothing beside it" in told[1]["error"]["message"]
    assert server.json(PATH, "{")[0] == server.json(PATH, "[]")[0] == server.json(PATH, "[" * 100_000)[0] == 400
