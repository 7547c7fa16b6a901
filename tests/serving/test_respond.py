"""``POST /v1/respond``: the forms of what goes in and comes out, and what is refused."""

import io
import json
from base64 import b64decode
from email.parser import BytesParser

import numpy as np
import pytest
import soundfile
import torch

from empathy_lightning.audio import SAMPLE_RATE, resample
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.serving.limits import Limits
from empathy_lightning.serving.sound import StreamedRate, wave
from empathy_lightning.utterance import EMOTIONS
from tests.serving.conftest import DRAWN, question, serving
from tests.tiny import spoken

ASKED = wave(question(1), SAMPLE_RATE)


def form(**fields):
    """A form with a file, as browsers and curl send it."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    return b"".join([*parts, head, ASKED, b"\r\n--x--\r\n"]), {"Content_Type": "multipart/form-data; boundary=x"}


def test_a_reply_in_every_form(server, bot):
    (alone,) = bot.respond(question(1), decoding=DRAWN)
    sound = wave(alone.waveform, 8_000)
    status, whole = server.json("/v1/respond", ASKED)
    assert status == 200 and whole["text"] == whole["said"] == alone.text and not whole["interrupted"]
    assert b64decode(whole["audio"]["data"]) == sound and whole["audio"]["sample_rate"] == 8_000
    body, headers = form(seed=2)
    assert server.json("/v1/respond", body, **headers)[1]["text"] == alone.text
    status, headers, content = server.ask("/v1/respond", ASKED, Accept="audio/wav")
    assert (status, headers["content-type"], content) == (200, "audio/wav", sound)
    assert headers["x-emotion"] == alone.emotion
    samples = np.frombuffer(sound[44:], "<i2")
    _, headers, content = server.ask("/v1/respond", ASKED, Accept="application/x-ndjson")
    heard, *events, reply = [json.loads(line) for line in content.splitlines()]
    assert headers["content-type"] == "application/x-ndjson"
    assert heard["type"] == "heard" and heard["emotion"] == alone.emotion and heard["arousal"] is not None
    assert reply["type"] == "reply" and reply["text"] == alone.text
    assert "".join(event["text"] for event in events if event["type"] == "text") == alone.text
    blocks = b"".join(b64decode(event["data"]) for event in events if event["type"] == "audio")
    assert np.abs(np.frombuffer(blocks, "<i2").astype(int) - samples).max() <= 2
    _, headers, content = server.ask("/v1/respond", ASKED, Accept="multipart/mixed")
    message = BytesParser().parsebytes(f"Content-Type: {headers['content-type']}\r\n\r\n".encode() + content)
    parts = [(part.get_content_type(), part.get_payload(decode=True)) for part in message.get_payload()]
    assert [kind for kind, _ in parts].count("audio/l16") == len([e for e in events if e["type"] == "audio"])
    assert json.loads(parts[-1][1])["text"] == alone.text
    assert server.json("/v1/respond?aloud=false", ASKED)[1]["audio"] is None


def quiet_flac(seconds, rate, channels):
    file = io.BytesIO()
    samples = np.zeros((seconds * rate, channels), "int16")
    samples[:1_000] = 9_000
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("", b"no sound at all", 400, "the recording: damaged, cut, or not audio"),
        ("", b"", 400, "the recording: damaged, cut, or not audio"),
        ("", ASKED[:60], 400, "the recording: "),
        ("", wave(torch.zeros(9_000), 16_000), 400, "the recording: is silent"),
        ("", wave(question(0, 0.25)[:1_000], 16_000), 400, "is too short"),
        ("", quiet_flac(3, 8_000, 1), 400, "the recording: 3 s is too long; at most 2 s can be answered"),
        ("", quiet_flac(2, 96_000, 8), 400, "8 channels at 96000 Hz are too many"),
        ("", bytes(300_000), 413, "at most 0.2 MB can be sent"),
        ("?seed=one", ASKED, 400, "seed 'one' is no int"),
        ("?temperature=nan", ASKED, 400, "temperature 'nan' is no float"),
        ("?temperature=-1", ASKED, 400, "a temperature has to be 0 or more"),
        ("?sed=1", ASKED, 400, "sed is no option; did you mean seed?"),
        ("?language=%20", ASKED, 400, "the language ' ' is no name"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(bot, path, body, status, message):
    with serving(bot, Limits(seconds=2, megabytes=0.2)) as running:
        told = running.json(f"/v1/respond{path}", body)
        assert told[0] == status and message in told[1]["error"]["message"]
        assert running.service.metrics.open == running.service.engine.waiting == 0


def test_what_is_no_form_is_refused(server):
    body, headers = form()
    for wrong in (body.replace(b'name="file"', b'name="fill"'), body[:200], b""):
        assert server.json("/v1/respond", wrong, **headers)[0] == 400
    assert server.json("/v1/respond", body, Content_Type="multipart/form-data")[0] == 400
    status, told = server.json("/v1/respond", ASKED, Accept="image/png")
    assert status == 406 and "application/x-ndjson" in told["error"]["message"]


def test_a_chunked_upload_is_measured_while_it_comes(bot):
    with serving(bot, Limits(megabytes=0.05)) as running:
        status, _, _ = running.ask("/v1/respond", iter([bytes(30_000)] * 3))
        assert status == 413


def test_a_bot_without_a_voice_answers_in_text(model):
    bot = EmpatheticChatbot(spoken(model, EMOTIONS))
    with serving(bot) as running:
        status, told = running.json("/v1/respond", ASKED)
        assert status == 200 and told["text"] and told["audio"] is None
        assert running.json("/v1/respond", ASKED, Accept="audio/wav")[0] == 406


def test_token_name_and_origin(bot):
    with serving(bot, token="s3cret", any_host=True) as running:
        assert running.ask("/health")[0] == 200 and running.ask("/")[0] in (200, 404)
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "s3cret"}):
            status, told, _ = running.ask("/v1/respond", ASKED, **headers)
            assert status == 401 and told["www-authenticate"] == "Bearer"
        assert running.ask("/metrics")[0] == 401
        assert running.ask("/v1/respond", ASKED, Authorization="Bearer s3cret")[0] == 200
        assert running.ask("/health", Host="bot.example")[0] == 200
    with serving(bot) as running:
        # A page elsewhere may have a name that was made to point to this machine.
        assert running.ask("/health", Host="elsewhere.example")[0] == 421
        local = f"127.0.0.1:{running.port}"
        assert running.ask("/v1/respond", ASKED, Origin="https://elsewhere.example")[0] == 403
        assert running.ask("/v1/respond", ASKED, Origin=f"http://{local}", Host=local)[0] == 200


@pytest.mark.parametrize("rates", [(16_000, 24_000), (22_050, 24_000), (44_100, 24_000), (24_000, 24_000)])
def test_sound_that_comes_in_blocks_is_resampled_as_if_it_were_whole(rates):
    sound = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    stream = StreamedRate(*rates)
    given = [stream.push(block) for block in sound.split([1, 700, 3_000, 0, 16_000, 299])]
    whole = resample(sound, *rates)
    assert sum(map(len, given)) > 0.9 * len(whole)
    assert torch.allclose(torch.cat([*given, stream.end()]), whole, atol=1e-5)
