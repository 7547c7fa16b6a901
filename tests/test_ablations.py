"""Each row of FreezeEmpath's ablations is one override of an example config, on the real command line."""

import csv
import shutil

import pytest
import torch
from safetensors.torch import load_file

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load
from tests.conftest import ROOT

DEMO = "outputs/demo"


@pytest.fixture(scope="module")
def earlier(corpus, tmp_path_factory):
    """A folder in which stages 1 and 2a ran for two steps."""
    folder = tmp_path_factory.mktemp("earlier")
    for stage in ("speech_adapter", "emotion_recognition"):
        fit(folder, corpus, stage)
    return folder


@pytest.fixture
def folder(earlier, tmp_path):
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    return tmp_path


def fit(folder, corpus, stage, *overrides, command="fit", code=0):
    """Run a stage of the demo in a folder and return the last value of each logged figure."""
    words = [
        command, "--config", str(ROOT / f"examples/demo/{stage}.yaml"), f"--data.corpora.path={corpus}",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1",
        "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--again=true", *overrides,
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(words) == code
    figures = {}
    beside = "" if command == "fit" else command
    if (path := folder / DEMO / "logs" / stage / beside / "metrics.csv").is_file():
        for row in csv.DictReader(path.open()):
            figures.update({name: float(value) for name, value in row.items() if value})
    return figures


@pytest.mark.parametrize(
    ("override", "gone", "kept"), [("layers=last", "gate_fc", "attn_pool"), ("pooling=mean", "attn_pool", "gate_fc")]
)
def test_extractors(folder, corpus, override, gone, kept):
    for stage in ("emotion_recognition", "emotion_nuance"):
        fit(folder, corpus, stage, f"--model.model.listener.emotion_nuance.{override}")
    names = " ".join(load_file(folder / DEMO / "emotion_nuance/model.safetensors"))
    assert gone not in names and kept in names
    option, _, value = override.partition("=")
    assert getattr(load(folder / DEMO / "emotion_nuance").listener.emotion_nuance.extractor, option) == value


def test_no_pretraining_on_recognition(folder, corpus):
    shutil.rmtree(folder / DEMO / "emotion_recognition")
    fit(folder, corpus, "emotion_nuance", f"--model.initial_weights=[{DEMO}/speech_adapter]")
    assert load(folder / DEMO / "emotion_nuance").listener.emotion_nuance is not None


def test_no_instruction_tuning(folder, corpus):
    before = load_file(folder / DEMO / "emotion_recognition/model.safetensors")
    fit(folder, corpus, "emotion_nuance", "--trainer.max_epochs=0")
    after = load_file(folder / DEMO / "emotion_nuance/model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(name.startswith("listener.speech_adapter") for name in after)


@pytest.mark.parametrize("without", ["auxiliary_losses={}", "loss_weights={response: 1.0, categorical: 0, rating: 0}"])
def test_no_auxiliary_loss(folder, corpus, without):
    # Weight decay would move the idle heads a little.
    figures = fit(folder, corpus, "emotion_nuance", f"--model.{without}", "--model.optimizer.weight_decay=0")
    assert figures["validation/loss"] == pytest.approx(figures["validation/response_loss"])
    assert ("validation/categorical_loss" in figures) == without.startswith("loss_weights")
    before = load(folder / DEMO / "emotion_recognition").listener.emotion_nuance.state_dict()
    after = load(folder / DEMO / "emotion_nuance").listener.emotion_nuance.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("attn_pool" in name for name in moved) and not any("head.bias" in name for name in moved)


def test_what_would_train_nothing_is_refused(folder, corpus, capsys):
    for stage, override, reason in (
        ("speech_adapter", "model.responder.speech_slot=Transcript", "leaves the adapter out"),
        ("emotion_recognition", "auxiliary_losses={}", "without a responder"),
    ):
        fit(folder, corpus, stage, f"--model.{override}", code=2)
        assert reason in capsys.readouterr().err.splitlines()[-1]
    nothing = ["--model.auxiliary_losses={}", "--model.model.responder.emotion_slot=TrueLabel"]
    fit(folder, corpus, "emotion_nuance", *nothing, code=2)
    assert "give some" in capsys.readouterr().err.splitlines()[-1]
    fit(folder, corpus, "emotion_nuance", "--model.model.responder.emotion_slot=tone", code=2)
    assert "emotion_slot" in capsys.readouterr().err.splitlines()[-1]


def test_what_fills_the_slots(folder, corpus):
    fit(folder, corpus, "emotion_nuance")
    trained = f"--model.initial_weights=[{DEMO}/emotion_nuance]"
    losses = {}
    for slots in (
        "HeardSpeech HeardEmotion",
        "HeardSpeech another voice",
        "Transcript RandomLabel",
        "Transcript TrueLabel",
    ):
        speech, _, emotion = slots.partition(" ")
        overrides = [f"--model.model.responder.speech_slot={speech}", f"--model.model.responder.emotion_slot={emotion}"]
        if emotion == "another voice":
            overrides = ["--data.emotion_voice=random"]
        figures = fit(folder, corpus, "emotion_nuance", trained, *overrides, command="validate")
        losses[slots] = figures["validation/response_loss"]
    assert len(set(losses.values())) == len(losses)
    # The frozen model's own replies were made from the transcript and the label: nothing fits them better.
    assert min(losses, key=losses.get) == "Transcript TrueLabel"
