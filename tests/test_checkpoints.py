import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from empathy_lightning.checkpoints import (
    CheckpointError,
    load,
    load_vocoder,
    load_weights,
    save,
)
from empathy_lightning.decoding import Decoding
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.parts import entries
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken, whole


@pytest.fixture
def checkpoint(model):
    tokenizer = model.responder.language_model.tokenizer
    decoder = SpeechDecoder(32, len(tokenizer), tokenizer.pad_token_id, num_units=8, body=Qwen2Body(16, 1, 2))
    return spoken(model, list(EMOTIONS), decoder.eval(), NeuralVocoder(num_units=8, hidden_size=16, num_layers=1))


FRESH = """
import socket, sys
class Blocked(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = Blocked
import torch
torch.set_num_threads(1)
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.decoding import Decoding
reply, = EmpatheticChatbot.from_pretrained(sys.argv[1]).respond([sys.argv[2]], decoding=Decoding(8, temperature=2.0))
print(repr((reply.text, reply.emotion, round(reply.arousal, 5), reply.waveform.shape[0])))
"""


def test_a_fresh_process_without_network_gives_the_same_reply(checkpoint, corpus, tmp_path):
    from empathy_lightning.chatbot import EmpatheticChatbot

    save(tmp_path / "bot", checkpoint)
    recording = corpus.parent / "3.wav"
    (reply,) = EmpatheticChatbot(checkpoint).respond([recording], decoding=Decoding(8, temperature=2.0))
    expected = repr((reply.text, reply.emotion, round(reply.arousal, 5), reply.waveform.shape[0]))
    command = [sys.executable, "-c", FRESH, str(tmp_path / "bot"), str(recording)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == expected


def test_only_trained_parts_are_saved_and_all_of_them_return(checkpoint, tmp_path):
    save(tmp_path, checkpoint)
    config = json.loads((tmp_path / "config.json").read_text())
    kinds = {path: found["class_path"].rpartition(".")[2] for path, found in entries(config["model"])}
    assert kinds == {
        "": "EmpatheticLM", "listener": "Listener", "responder": "Responder", "talker": "Talker",
        "listener.speech_encoder": "from_pretrained", "listener.speech_adapter": "SpeechAdapter",
        "listener.emotion_nuance": "EmotionNuance", "responder.language_model": "from_pretrained",
        "responder.speech_slot": "HeardSpeech", "responder.emotion_slot": "HeardEmotion",
        "talker.speech_decoder": "SpeechDecoder", "talker.vocoder": "NeuralVocoder",
        "talker.speech_decoder.body": "Qwen2Body", "talker.speech_decoder.fusion": "GatedFusion",
    }  # fmt: skip
    trained = ("listener.speech_adapter.", "listener.emotion_nuance.", "talker.speech_decoder.", "talker.vocoder.")
    assert all(key.startswith(trained) for key in load_file(tmp_path / "model.safetensors"))
    before, after = checkpoint.state_dict(), load(tmp_path).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert not list(tmp_path.glob(".*"))


def test_a_backbone_that_was_trained_returns_and_stays_through_later_stages(checkpoint, model, tmp_path):
    weight = checkpoint.listener.speech_encoder.encoder.layers[1].fc1.weight
    weight.requires_grad_(True)
    with torch.no_grad():
        weight.add_(1.0)
    save(tmp_path / "first", checkpoint)
    first = load(tmp_path / "first")
    returned = first.listener.speech_encoder.encoder.layers[1].fc1.weight
    assert torch.equal(returned, weight) and not returned.requires_grad
    save(tmp_path / "second", first)
    later = load(tmp_path / "second").listener.speech_encoder.encoder
    assert torch.equal(later.layers[1].fc1.weight, weight)
    kept = [
        key for key in load_file(tmp_path / "second" / "model.safetensors") if key.startswith("listener.speech_encoder")
    ]
    assert kept == ["listener.speech_encoder.encoder.layers.1.fc1.weight"]
    fresh = SpeechEncoder.from_pretrained(checkpoint.listener.speech_encoder.source["name_or_path"])
    stage = whole(CachedSpeechEncoder(fresh), emotion_nuance=EmotionNuance(32, 32, hidden_size=48, gate_size=8))
    load_weights(tmp_path / "second", stage)
    assert torch.equal(fresh.encoder.layers[1].fc1.weight, weight)


def test_an_earlier_stage_fills_what_it_has(checkpoint, model, tmp_path):
    model.talker = None
    save(tmp_path, model)
    adapter = model.listener.speech_adapter.linear1.weight.clone()
    torch.nn.init.zeros_(model.listener.speech_adapter.linear1.weight)
    assert set(load_weights(tmp_path, model)) == {"listener.speech_adapter", "listener.emotion_nuance"}
    assert torch.equal(model.listener.speech_adapter.linear1.weight, adapter)


def spoil_part(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["init_args"]["listener"]["init_args"]["speech_adapter"]["init_args"]["hidden_size"] += 1
    (folder / "config.json").write_text(json.dumps(config))


def spoil_backbone(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model"]["init_args"]["responder"]["init_args"]["language_model"]["init_args"]["name_or_path"] = str(
        folder / "nothing"
    )
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 30), "damaged"),
        (lambda f: (f / "config.json").write_text("{"), "damaged"),
        (lambda f: (f / "config.json").write_text("{}"), "not written by this library"),
        (spoil_part, "other sizes"),
        (spoil_backbone, "cannot be loaded"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(checkpoint, tmp_path, spoil, reason):
    save(tmp_path, checkpoint)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=reason) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_vocoder_alone_survives(checkpoint, tmp_path):
    save(tmp_path, checkpoint.talker.vocoder)
    units = torch.arange(8)[None]
    assert torch.equal(load_vocoder(str(tmp_path))(units), checkpoint.talker.vocoder(units))
