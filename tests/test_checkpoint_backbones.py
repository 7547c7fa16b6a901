"""The backbones that a folder names: found wherever they are, chosen otherwise, and known again."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from empathy_lightning.checkpoint_backbones import backbones_in, weights_digest
from empathy_lightning.checkpoints import CheckpointError, load, save
from empathy_lightning.errors import InputError
from empathy_lightning.folders import read_config
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path / "bot"


def named(folder):
    return {
        path.rpartition(".")[2]: found["name_or_path"] for path, found in backbones_in(read_config(folder)["model"])
    }


def changed(folder, place):
    """A copy of a model with one weight that is another."""
    shutil.copytree(folder, place)
    weights = load_file(place / "model.safetensors")
    next(iter(weights.values())).add_(1.0)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return place


def test_other_backbones_and_precisions_are_chosen_at_loading(bot, backbones, tmp_path):
    copied = shutil.copytree(backbones, tmp_path / "copied")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load(bot, backbones={"language_model": str(copied / "language_model")}, dtype="bfloat16", device="cpu")
    language_model = model.responder.language_model
    assert language_model.source["name_or_path"] == str(copied / "language_model")
    assert language_model.model.dtype == torch.bfloat16
    assert model.listener.speech_adapter.linear1.weight.dtype == torch.float32
    path = {"listener.speech_encoder": str(copied / "speech_encoder")}
    assert load(bot, backbones=path).listener.speech_encoder.source["name_or_path"] == str(copied / "speech_encoder")
    with pytest.raises(InputError, match=r"backbones has no 'speech_encodr'.*did you mean speech_encoder"):
        load(bot, backbones={"speech_encodr": "x"})
    with pytest.raises(CheckpointError, match="no dtype named 'bf15'"):
        load(bot, dtype="bf15")


def test_a_folder_says_when_a_backbone_has_other_weights(bot, backbones, tmp_path):
    other = changed(backbones / "speech_encoder", tmp_path / "other")
    known = read_config(bot)["backbones"]
    assert known["listener.speech_encoder"] == weights_digest(str(backbones / "speech_encoder"))
    assert known["listener.speech_encoder"] != weights_digest(str(other))
    with pytest.warns(UserWarning, match=r"listener\.speech_encoder is .*other here, whose weights .* are not those"):
        load(bot, backbones={"speech_encoder": str(other)})


def test_a_project_is_moved_as_a_whole(model, backbones, tmp_path, monkeypatch):
    project = tmp_path / "project"
    shutil.copytree(backbones, project / "models")
    monkeypatch.chdir(project)
    model.listener.speech_encoder = SpeechEncoder.from_pretrained(str(project / "models/speech_encoder"))
    model.responder.language_model.source["name_or_path"] = str(project / "outputs/bot/language_model")
    shutil.copytree(backbones / "language_model", project / "outputs/bot/language_model")
    save("outputs/bot", spoken(model, list(EMOTIONS)))
    assert named("outputs/bot") == {"speech_encoder": "models/speech_encoder", "language_model": "language_model"}
    assert "project" not in (project / "outputs/bot/config.json").read_text()
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "moved")
    again = load(tmp_path / "moved/outputs/bot")
    weights = again.listener.speech_encoder.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.listener.speech_encoder.state_dict().items())


def test_what_lay_in_the_cache_is_recorded_by_name_and_commit(model, backbones, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub/models--someone--encoder/snapshots" / commit
    shutil.copytree(backbones / "speech_encoder", place)
    model.listener.speech_encoder.source["name_or_path"] = str(place)
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    (_, found), _ = backbones_in(read_config(tmp_path / "bot")["model"])
    assert (found["name_or_path"], found["revision"]) == ("someone/encoder", commit)


def test_models_are_looked_for_among_the_backbones_of_the_environment(bot, backbones, tmp_path, monkeypatch):
    config = json.loads((bot / "config.json").read_text())
    for path, found in backbones_in(config["model"]):
        found["name_or_path"] = "/elsewhere/Speech_Encoder" if "encoder" in path else "someone/language_model"
    (bot / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no model folder at /elsewhere/Speech_Encoder"):
        load(bot)
    monkeypatch.setenv("EMPATHY_BACKBONES", str(backbones))
    assert load(bot).listener.speech_encoder.source["name_or_path"] == "/elsewhere/Speech_Encoder"
