import json

import pytest
import torch

from empathy_lightning.audio import AudioError
from empathy_lightning.chatbot import EmpatheticChatbot, chat, split_at_pauses
from empathy_lightning.checkpoints import Checkpoint, CheckpointError, save
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.utterance import EMOTIONS


@pytest.fixture
def bot(model):
    return EmpatheticChatbot(Checkpoint(model, list(EMOTIONS)))


def test_long_speech_is_cut_at_the_quietest_moment():
    waveform = torch.randn(16_000 * 25)
    waveform[16_000 * 9 : 16_000 * 9 + 8_000] = 0
    pieces = split_at_pauses(waveform, 10.0)
    assert torch.equal(torch.cat(pieces), waveform)
    assert all(len(piece) <= 160_000 for piece in pieces)
    assert 16_000 * 9 <= len(pieces[0]) <= 16_000 * 9 + 8_000


def test_many_recordings_are_answered_as_each_alone(bot):
    recordings = [torch.randn(16_000 * n) for n in (1, 3, 2)]
    together = bot.respond(recordings, max_new_tokens=8)
    for recording, reply in zip(recordings, together, strict=True):
        (alone,) = bot.respond([recording], max_new_tokens=8)
        assert (reply.text, reply.emotion, reply.probabilities) == (alone.text, alone.emotion, alone.probabilities)
        assert sum(reply.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert reply.waveform is None


def test_speech_beyond_the_window_is_heard_whole(bot):
    said, emotion = bot.hear([torch.randn(16_000 * 65)])
    assert len(said[0]) >= 650 and emotion.logits.shape == (1, 5)


def test_bad_recordings_are_refused_before_any_answer(bot):
    with pytest.raises(AudioError, match="recording 2: is silent"):
        bot.respond([torch.randn(16_000), torch.zeros(16_000)])


def test_a_recogniser_alone_cannot_chat(model):
    recogniser = EmpatheticLM(model.speech_encoder, emotion_nuance=model.emotion_nuance)
    with pytest.raises(CheckpointError, match="cannot chat"):
        EmpatheticChatbot(Checkpoint(recogniser, list(EMOTIONS)))


def test_chat_writes_what_it_says(model, corpus, tmp_path, capsys):
    save(tmp_path / "bot", Checkpoint(model, list(EMOTIONS)))
    files = [corpus.parent / "0.wav", corpus.parent / "1.wav"]
    replies = chat(files, tmp_path / "out", tmp_path / "bot")
    entries = json.loads((tmp_path / "out" / "replies.json").read_text())
    assert [entry["text"] for entry in entries] == [reply.text for reply in replies]
    assert "heard" in capsys.readouterr().out
