"""What a task takes from outside by class path: metrics, optimiser, schedule, and losses of every task."""

import json

import pytest
import torch
import yaml
from torchmetrics import Metric

from empathy_lightning.__main__ import main
from empathy_lightning.tasks import Schedule
from tests.tasks.test_resume import configuration, part
from tests.tasks.test_runs import last_line

HERE = "tests.tasks.test_open"


class Labelled(Metric):
    """A metric from outside: labelled utterances of a split, and nothing to measure where there are none."""

    full_state_update = False

    def __init__(self, at_least: int = 0):
        super().__init__()
        self.at_least = at_least
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, output, batch):
        assert len(output.emotion.logits) == len(batch)
        self.count += (batch.emotion >= 0).sum()

    def compute(self):
        return self.count if self.count >= self.at_least else self.count * torch.nan


class Stairs(Schedule):
    """A schedule from outside."""

    def __init__(self, height: float = 0.5):
        self.height = height

    def factor(self, step, steps):
        return self.height ** (step // 2)


class StateSize(torch.nn.Module):
    """A loss from outside over what the speech decoder reads; mean square of the states."""

    def forward(self, output, batch):
        if not output.units:
            return torch.zeros(())
        assert [len(s) for s in output.states] == [len(t) for t in output.tokens]
        return torch.cat(output.states).float().square().mean()


def fit(settings, folder, *words):
    settings = json.loads(json.dumps(settings))
    settings["trainer"]["callbacks"] = [part("tasks.Export", folder=str(folder / "export"))]
    settings["trainer"] |= {"default_root_dir": str(folder), "max_epochs": 1, "limit_train_batches": 3}
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "--config", str(folder / "run.yaml"), *words]) == 0
    return json.loads((folder / "export/training.json").read_text())["history"][-1]


def test_a_metric_from_outside_is_measured_and_logged(corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    usual = fit(settings, tmp_path / "usual")
    names = {"unweighted_accuracy", "weighted_accuracy", *(f"concordance_{n}" for n in ("arousal", "valence"))}
    assert {f"validation/{name}" for name in names} <= set(usual)
    settings["model"]["init_args"]["metrics"] = {
        "labelled": {"class_path": f"{HERE}.Labelled"},
        "many": {"class_path": f"{HERE}.Labelled", "init_args": {"at_least": 1000}},
        "accuracy": part("metrics.WeightedAccuracy", num_classes=5),
    }
    figures = fit(settings, tmp_path / "own")
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    assert figures["validation/labelled"] == sum(row["split"] == "validation" for row in rows)
    assert figures["validation/accuracy"] == usual["validation/weighted_accuracy"]
    assert not {"validation/many", "validation/unweighted_accuracy"} & set(figures)


def test_the_decoder_takes_losses_and_logs_them(corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "SpeechDecoderTask")
    alone = fit(settings, tmp_path / "alone")
    assert alone["validation/loss"] == alone["validation/unit_loss"]
    settings["model"]["init_args"]["auxiliary_losses"] = {"size": {"class_path": f"{HERE}.StateSize"}}
    settings["model"]["init_args"]["loss_weights"] = {"unit": 2.0, "size": 0.5}
    figures = fit(settings, tmp_path / "more")
    unit, size = figures["validation/unit_loss"], figures["validation/size_loss"]
    assert size > 0 and figures["validation/loss"] == pytest.approx(2 * unit + 0.5 * size, rel=1e-5)


def test_optimiser_and_schedule_by_class_path_decide_what_is_learned(corpus, backbones, tmp_path):
    """SGD keeps nothing of a gradient, and yet the heads count as trained."""
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    words = ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", f"--model.schedule={HERE}.Stairs"]
    fit(settings, tmp_path / "run", *words, "--model.schedule.height=0.25", "--trainer.enable_checkpointing=true")
    (path,) = (tmp_path / "run").rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["settings"]["optimizer"].endswith(".SGD") and saved["settings"]["optimizer.lr"] == 0.1
    assert saved["settings"]["schedule"] == f"{HERE}.Stairs" and saved["settings"]["schedule.height"] == 0.25
    assert saved["lr_schedulers"][0]["_last_lr"] == [0.1 * 0.25 ** (3 // 2)]
    config = json.loads((tmp_path / "run/export/config.json").read_text())
    listener = config["model"]["init_args"]["listener"]["init_args"]
    assert listener["untrained_heads"] == ["arousal", "valence", "dominance"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model.optimizer.init_args.lr=0.5"], "optimizer.lr 0.01, the configuration says 0.5: give --model.opt"),
        (["--model.optimizer=SGD"], "optimizer torch.optim.adamw.AdamW, the configuration says torch.optim.sgd.SGD"),
        (["--model.schedule=Cosine", "--model.schedule.warmup=7"], "schedule.warmup 0.03, the configuration says 7.0"),
        (["--model.schedule=WarmupDecay"], "schedule empathy_lightning.tasks.schedule.Cosine, the configuration says"),
    ],
)  # fmt: skip
def test_a_resumed_run_has_the_same_optimiser_and_schedule(words, told, corpus, backbones, tmp_path, capsys):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    fit(settings, tmp_path / "run", "--trainer.enable_checkpointing=true")
    (path,) = (tmp_path / "run").rglob("*.ckpt")
    settings["trainer"]["max_epochs"] = 2
    settings["trainer"]["default_root_dir"] = str(tmp_path)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "--config", str(tmp_path / "again.yaml"), f"--ckpt_path={path}", *words]) == 2
    assert f"was trained with {told}" in last_line(capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model.metrics.mine=NoSuch"], ["model.metrics", "NoSuch"]),
        (["--model.schedule=Cosin"], ["model.schedule", "Cosin"]),
        (["--model.optimizer=AdamV"], ["model.optimizer", "AdamV"]),
        (["--model.schedule.warmup=3"], ["model.schedule: say which class it is", "--model.schedule", "Cosine"]),
    ],
)
def test_a_slip_in_a_class_path_is_one_line(words, told, corpus, backbones, tmp_path, capsys):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["fit", "--config", str(tmp_path / "run.yaml"), *words]) == 2
    line = last_line(capsys)
    assert all(word in line for word in told) and len(line) < 400, line
