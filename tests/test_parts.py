"""Parts of one's own come back from a folder as themselves, or are refused before they are trained."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest
import soundfile
import torch
from torch import nn

from empathy_lightning.__main__ import main
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import CheckpointError, check_savable, load, load_weights, save
from empathy_lightning.decoding import Decoding
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.talker import Talker
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.tiny import spoken


class Doubled(SpeechAdapter):
    """The same arguments, another function."""

    def forward(self, frames, mask):
        adapted, valid = super().forward(frames, mask)
        return 2 * adapted, valid


class Scaled(SpeechAdapter):
    """One more argument; the others are handed on."""

    def __init__(self, *args, factor: float, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def forward(self, frames, mask):
        adapted, valid = super().forward(frames, mask)
        return self.factor * adapted, valid


class Narrow(SpeechAdapter):
    """Gives its parent one argument itself; the others are handed on."""

    def __init__(self, factor: float = 1.0, **kwargs):
        super().__init__(hidden_size=8, **kwargs)
        self.factor = factor


class Narrower(Narrow):
    def __init__(self, input_size: int, **kwargs):
        super().__init__(input_size=2 * (input_size // 2), factor=2.0, **kwargs)


class Hidden(SpeechAdapter):
    """What it gives its parent stands in no call."""

    def __init__(self, **kwargs):
        super().__init__(**dict(hidden_size=8), **kwargs)


class Forgetful(SpeechAdapter):
    def __init__(self, factor: float = 1.0, **kwargs):
        super().__init__(**kwargs)


class Layered(SpeechAdapter):
    def __init__(self, activation: nn.Module, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation

    def forward(self, frames, mask):
        embeddings, mask = super().forward(frames, mask)
        wide = embeddings.repeat_interleave(5, 1)
        return self.activation(wide, torch.ones(wide.shape[:2], dtype=torch.bool))


class Halving(SpeechAdapter):
    def __init__(self, input_size: int, output_size: int, hidden_size: int):
        super().__init__(input_size, output_size, hidden_size // 2)


class Growing(SpeechAdapter):
    """Its weights do not follow from its arguments."""

    made = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Growing.made += 1
        self.more = nn.Linear(1, Growing.made)


class OwnLM(EmpatheticLM):
    """Another wiring."""


class FewLM(EmpatheticLM):
    """Knows the categories itself."""

    def __init__(self, **kwargs):
        super().__init__(emotions=EMOTIONS, **kwargs)


class OwnVocoder(NeuralVocoder):
    """Another voice."""


def with_adapter(model, adapter):
    model.listener.speech_adapter = adapter
    return spoken(model, list(EMOTIONS))


@pytest.mark.parametrize(
    "adapter",
    [
        Doubled(32, 32, 48),
        Scaled(32, 32, hidden_size=48, factor=3.0),
        Narrow(input_size=32, output_size=32, factor=3.0),
        Narrower(input_size=32, output_size=32),
        Layered(Doubled(32, 32, 48), input_size=32, output_size=32, hidden_size=48),
    ],
)
def test_a_subclass_returns_as_itself(model, adapter, tmp_path):
    check_savable(with_adapter(model, adapter))
    save(tmp_path, with_adapter(model, adapter))
    loaded = load(tmp_path, trust=["tests"]).listener.speech_adapter
    assert type(loaded) is type(adapter)
    frames, mask = torch.randn(2, 10, 32), torch.ones(2, 10, dtype=torch.bool)
    assert torch.equal(loaded(frames, mask)[0], adapter(frames, mask)[0])


def test_a_model_and_a_vocoder_of_one_s_own_return(model, tmp_path):
    decoder = SpeechDecoder(32, 300, 0, num_units=8, body=Qwen2Body(16, 1, 2))
    own = OwnLM(
        model.listener,
        model.responder,
        Talker(decoder, OwnVocoder(8, 16, 1)),
        EMOTIONS,
    )
    save(tmp_path, own)
    loaded = load(tmp_path, trust=["tests.test_parts"])
    assert type(loaded) is OwnLM and type(loaded.talker.vocoder) is OwnVocoder


def test_a_model_that_fixes_an_argument_returns(model, tmp_path):
    own = FewLM(listener=model.listener, responder=model.responder)
    check_savable(own)
    save(tmp_path, own)
    assert "emotions" not in json.loads((tmp_path / "config.json").read_text())["model"]["init_args"]
    loaded = load(tmp_path, trust=["tests.test_parts"])
    assert type(loaded) is FewLM and loaded.emotions == list(EMOTIONS)


def test_what_a_class_fixes_out_of_sight_is_refused_with_a_way_out(model):
    adapter = Hidden(input_size=32, output_size=32)
    with pytest.raises(CheckpointError, match=r"Hidden .*: name its other arguments in __init__, without \*\*kwargs$"):
        check_savable(with_adapter(model, adapter))


def adapter_of(config):
    return config["model"]["init_args"]["listener"]["init_args"]["speech_adapter"]


def refused(message, kind, **arguments):
    return pytest.param(kind, arguments, message, id=kind.__name__)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        refused("keeps its argument 'factor' nowhere", Forgetful),
        refused(
            "'activation' of Layered is a function, which config.json cannot hold", Layered, activation=pytest.approx
        ),
        refused("Halving changes an argument", Halving),
        refused("has other weights", Growing),
    ],
)
def test_what_could_not_return_is_refused_before_it_is_trained(model, kind, arguments, message):
    adapter = kind(input_size=32, output_size=32, hidden_size=48, **arguments)
    with pytest.raises(CheckpointError, match=message) as error:
        check_savable(with_adapter(model, adapter))
    assert str(error.value).startswith("speech_adapter") and len(str(error.value)) <= 300


def test_a_class_inside_a_function_is_refused(model):
    class Local(SpeechAdapter):
        pass

    with pytest.raises(CheckpointError, match="Local cannot be imported by name"):
        check_savable(with_adapter(model, Local(32, 32, 48)))


def test_the_check_leaves_the_random_state_alone(model):
    checkpoint = with_adapter(model, Doubled(32, 32, 48))
    state = torch.get_rng_state()
    check_savable(checkpoint)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_earlier_stage_fills_the_same_class_or_one_derived_from_it(model, tmp_path):
    plain = model.listener.speech_adapter
    save(tmp_path / "plain", spoken(model, list(EMOTIONS)))
    save(tmp_path / "doubled", with_adapter(model, Doubled(32, 32, 48)))
    assert "listener.speech_adapter" in load_weights(tmp_path / "plain", model)
    assert torch.equal(model.listener.speech_adapter.linear1.weight, plain.linear1.weight)
    model.listener.speech_adapter = SpeechAdapter(32, 32, 48)
    with pytest.raises(CheckpointError, match=r"is a tests\.test_parts\.Doubled there and a .*SpeechAdapter here"):
        load_weights(tmp_path / "doubled", model)


@pytest.fixture
def package(model, tmp_path, monkeypatch):
    """A package of the user's, a folder that names it, a recording, and what tells that the package was imported."""
    (tmp_path / "code").mkdir()
    text = (
        "from pathlib import Path\n"
        "from empathy_lightning.modules.speech_adapter import SpeechAdapter\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n\n\nclass Deep(SpeechAdapter):\n    pass\n"
    )
    (tmp_path / "code" / "elsewhere.py").write_text(text)
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "bot" / "config.json").read_text())
    adapter_of(config)["class_path"] = "elsewhere.Deep"
    (tmp_path / "bot" / "config.json").write_text(json.dumps(config))
    soundfile.write(tmp_path / "a.wav", 0.1 * torch.randn(16_000).numpy(), 16_000)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
    return tmp_path


def test_code_from_elsewhere_runs_only_where_it_is_trusted(package, capsys):
    words = ["chat", str(package / "a.wav"), "--checkpoint", str(package / "bot"), "--out", str(package / "out")]
    sys.path.insert(0, str(package / "code"))
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "elsewhere.Deep" in error and "--trust elsewhere" in error and len(error) <= 300
    assert not (package / "imported").exists()
    assert main([*words, "--trust", "elsewhere", "--max_new_tokens=2"]) == 0
    assert (package / "imported").exists()


def test_a_trusted_package_that_is_not_there_hints_at_the_path(package):
    with pytest.raises(CheckpointError, match="PYTHONPATH"):
        load(package / "bot", trust=["elsewhere"])


@pytest.mark.parametrize(
    "path", ["empathy_lightning.checkpoints.load_vocoder", "empathy_lightning.models.nn.Module", "torch.nn.Linear", "x"]
)
def test_only_module_classes_where_they_are_defined(package, path):
    config = json.loads((package / "bot" / "config.json").read_text())
    adapter_of(config)["class_path"] = path
    (package / "bot" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load(package / "bot")


def test_a_folder_of_an_older_form_says_so(model, tmp_path):
    save(tmp_path, spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "config.json").read_text())
    config["parts"] = config.pop("model")["init_args"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for read in (load, lambda folder: load_weights(folder, model)):
        with pytest.raises(CheckpointError, match="older version: train or convert it again"):
            read(tmp_path)


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_can_be_read_by_whom_the_umask_allows(model, tmp_path, umask):
    before = os.umask(umask)
    try:
        save(tmp_path, spoken(model, list(EMOTIONS)))
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("config.json", "model.safetensors"), 0o666 & ~umask)


def test_quantisation_is_kept_and_its_package_is_named_where_it_is_missing(model, tmp_path, monkeypatch):
    model.responder.language_model.source["quantization"] = "bitsandbytes-4bit"
    save(tmp_path, spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "config.json").read_text())
    assert (
        config["model"]["init_args"]["responder"]["init_args"]["language_model"]["init_args"]["quantization"]
        == "bitsandbytes-4bit"
    )
    monkeypatch.setattr("empathy_lightning.modules.quantization.find_spec", lambda package: None)
    with pytest.raises(CheckpointError, match=r"pip install 'empathy_lightning\[quantization\]'"):
        load(tmp_path)
    asked = {}
    monkeypatch.setattr(
        LanguageModel, "from_pretrained", lambda **how: asked.update(how) or model.responder.language_model
    )
    load(tmp_path)
    assert asked["quantization"] == "bitsandbytes-4bit"


HUB = """
import sys
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_encoder import SpeechEncoder
for kind, name in ((SpeechEncoder, "speech_encoder"), (LanguageModel, "language_model")):
    print(kind.from_pretrained(f"someone/{name}").source["revision"])
"""


def test_the_commit_of_a_model_from_the_hub_is_kept(backbones, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name in ("speech_encoder", "language_model"):
        cache = tmp_path / "hub" / f"models--someone--{name}"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text(commit)
        shutil.copytree(backbones / name, cache / "snapshots" / commit)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", HUB], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [commit] * 2


def test_a_local_folder_has_no_commit(backbones):
    assert SpeechEncoder.from_pretrained(str(backbones / "speech_encoder")).source["revision"] is None


def test_one_recording_may_be_given_alone(model, corpus):
    bot = EmpatheticChatbot(spoken(model, list(EMOTIONS)))
    path = corpus.parent / "3.wav"
    samples, _ = soundfile.read(path, dtype="float32")
    (expected,) = bot.respond([path], decoding=Decoding(max_new_tokens=4))
    for alone in (str(path), path, samples, torch.from_numpy(samples)):
        (reply,) = bot.respond(alone, decoding=Decoding(max_new_tokens=4))
        assert reply.text == expected.text
    assert [reply.text for reply in bot.respond([samples, path], decoding=Decoding(max_new_tokens=4))] == [
        expected.text
    ] * 2


def test_a_run_with_a_part_that_could_not_return_ends_before_it_trains(corpus, tmp_path, capsys):
    words = [
        "fit",
        f"--config={ROOT / 'examples/demo/speech_adapter.yaml'}",
        f"--data.corpora.path={corpus}",
        "--model.model.listener.speech_adapter=tests.test_parts.Forgetful",
        f"--trainer.callbacks={json.dumps([export(tmp_path)])}",
        "--trainer.logger=false",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    assert main(words) == 2
    assert "Forgetful keeps its argument 'factor' nowhere" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def export(folder):
    return {"class_path": "empathy_lightning.tasks.Export", "init_args": {"folder": str(folder / "out")}}


class Loud(SpeechEncoder):
    """Takes an argument that the parent's source does not keep."""

    @classmethod
    def from_pretrained(cls, name_or_path: str, gain: float = 1.0, **kwargs):
        encoder = super().from_pretrained(name_or_path, **kwargs)
        encoder.gain = gain
        return encoder


def test_a_backbone_that_would_come_back_as_another_is_refused(model, backbones):
    model.listener.speech_encoder = Loud.from_pretrained(str(backbones / "speech_encoder"), gain=5.0)
    with pytest.raises(CheckpointError, match=r"from_pretrained of Loud does not keep 'gain' in self\.source"):
        check_savable(spoken(model, list(EMOTIONS)))
    model.listener.speech_encoder.source["gain"] = 5.0
    check_savable(spoken(model, list(EMOTIONS)))


@pytest.mark.parametrize(
    ("half", "key", "value", "message"),
    [
        ("listener", "colour", "red", "Listener refuses its arguments"),
        ("responder", "speech_slot", "speech", "cannot be loaded|refuses"),
        (None, "emotions", ["sad", "happy"], "2 emotion names for a classifier of 5"),
        ("listener", "untrained_heads", ["colour"], "names no head 'colour'|cannot be loaded"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(model, tmp_path, half, key, value, message):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    config = json.loads((tmp_path / "bot/config.json").read_text())
    arguments = config["model"]["init_args"]
    (arguments[half]["init_args"] if half else arguments)[key] = value
    (tmp_path / "bot/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "bot")
