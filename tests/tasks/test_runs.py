"""A run says what happened: nothing untrained is measured, nothing broken exported, nothing of an earlier run lost."""

import csv
import json
import pickle
import signal
import time
from dataclasses import replace

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.report import rating_scatter
from empathy_lightning.jobs import locked
from empathy_lightning.modules.convolutional_adapter import ConvolutionalAdapter
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.utterance import EMOTIONS, RATINGS
from tests.forked import fork
from tests.tiny import arguments_in, spoken, whole


@pytest.fixture
def place(backbones, corpus, tmp_path, monkeypatch):
    """A working folder with a recogniser that trains on the tiny corpus in a second."""
    monkeypatch.chdir(tmp_path)
    checkpoints = {"dirpath": "logs/run", "save_last": True, "enable_version_counter": False}
    callback, loss = "lightning.pytorch.callbacks.ModelCheckpoint", "empathy_lightning.losses"
    content = {
        "trainer": {
            "max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1,
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "logs", "name": "run", "version": ""},
            },
            "callbacks": [
                {"class_path": callback, "init_args": {**checkpoints, "monitor": "validation/loss"}},
                {"class_path": callback, "init_args": {**checkpoints, "every_n_train_steps": 3, "save_top_k": 0}},
                {"class_path": "empathy_lightning.tasks.Export", "init_args": {"folder": "out"}},
            ],
        },
        "data": {
            "corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": str(corpus)}}],
            "batch_size": 4,
        },
        "model": {"class_path": "empathy_lightning.tasks.EmotionNuanceTask", "init_args": {
            "auxiliary_losses": {
                "categorical": {"class_path": f"{loss}.CategoricalLoss"},
                "rating": {"class_path": f"{loss}.RatingLoss"},
            },
            "model": {"listener": {
                "speech_encoder": {
                    "class_path": "empathy_lightning.modules.speech_encoder.SpeechEncoder.from_pretrained",
                    "init_args": {"name_or_path": str(backbones / "speech_encoder")},
                },
                "emotion_nuance": {
                    "class_path": "empathy_lightning.modules.emotion_nuance.EmotionNuance",
                    "init_args": {"input_size": 32, "output_size": 16, "hidden_size": 16, "gate_size": 8},
                },
            }},
        }},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "my_losses.py").write_text(LOSSES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be loaded."""
    for name in ("WhisperModel", "AutoModelForCausalLM"):
        kind = getattr(transformers, name)
        monkeypatch.setattr(kind, "from_pretrained", lambda *a, **k: pytest.fail("a model was loaded"))


LOSSES = """
import os, signal, torch

class Broken(torch.nn.Module):
    '''NaN from the fourth batch on.'''
    calls = 0
    def forward(self, output, batch):
        Broken.calls += self.training
        return output.emotion.arousal.sum() * (float("nan") if Broken.calls > 3 else 0.0)

class Labels(torch.nn.Module):
    '''Learns from emotions.'''
    needs = ("emotion",)
    def forward(self, output, batch):
        return torch.zeros(())

class Slow(torch.nn.Module):
    '''Says that it is called, and takes its time.'''
    def forward(self, output, batch):
        import time
        if self.training:
            open("called", "a").write(".")
            time.sleep(0.2)
        return output.emotion.arousal.sum() * 0.0
"""


def run(command, *words):
    return main([command, "--config", "run.yaml", *words])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_nothing_is_loaded_to_refuse_what_was_not_trained(place, unloaded, capsys):
    assert run("test") == 2
    assert "emotion_nuance would be measured untrained" in last_line(capsys)
    # What an earlier stage has left is not this run's.
    (place / "other").mkdir()
    (place / "other/config.json").write_text("{}")
    assert run("test", "--ckpt_path=last", "--model.initial_weights=[other]") == 2
    assert "this run has saved none" in last_line(capsys)


def test_nothing_is_loaded_to_refuse_a_folder_of_another_run(place, unloaded, capsys):
    (place / "out").mkdir()
    (place / "out/training.json").write_text("{}")
    assert run("fit") == 2
    assert "out/training.json is of another run" in last_line(capsys)
    assert not (place / "logs").exists()
    (place / "logs/run").mkdir(parents=True)
    with locked(place / "logs/run/.fit.lock", "held"):
        assert run("fit", "--again=true") == 2
    assert "another fit is at work in" in last_line(capsys)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("listener.emotion_nuance.input_size=16", "emotion_nuance.input_size is 16, but the speech_encoder"),
        ("listener.emotion_nuance.output_size=16", "emotion_nuance.output_size is 16, but the language_model"),
        ("listener.speech_adapter.input_size=16", "speech_adapter.input_size is 16, but the speech_encoder"),
        ("listener.speech_adapter.output_size=16", "speech_adapter.output_size is 16, but the language_model"),
    ],
)
def test_nothing_is_loaded_to_refuse_a_wrong_size(wrong, told, place, backbones, unloaded, capsys):
    adapter = {"class_path": "empathy_lightning.modules.speech_adapter.SpeechAdapter",
               "init_args": {"input_size": 32, "output_size": 32}}  # fmt: skip
    model = {"class_path": "empathy_lightning.modules.language_model.LanguageModel.from_pretrained",
             "init_args": {"name_or_path": str(backbones / "language_model")}}  # fmt: skip
    words = ["--model.model.listener.emotion_nuance.output_size=32"]
    words += [f"--model.model.listener.speech_adapter={json.dumps(adapter)}"]
    words += [f"--model.model.responder.language_model={json.dumps(model)}"]
    assert run("fit", *words, f"--model.model.{wrong}") == 2
    line = last_line(capsys)
    assert told in line and line.endswith("give 32")


def test_what_was_not_trained_is_measured_only_when_asked_for(place, capsys):
    for command in ("test", "validate"):
        assert run(command) == 2
        assert "emotion_nuance would be measured untrained" in last_line(capsys)
    assert not list(place.glob("logs/**/metrics.csv"))
    assert run("validate", "--untrained=true") == 0
    assert list(place.glob("logs/run/validate/metrics.csv"))


def test_weights_of_an_earlier_stage_are_trained_ones(place, capsys):
    assert run("fit", "--trainer.max_epochs=1") == 0
    assert run("test", "--model.initial_weights=[out]") == 0
    assert "weights      out\n" in capsys.readouterr().out
    assert run("test", "--ckpt_path=logs/run/last.ckpt") == 0


def test_a_test_says_each_corpus_and_language_beside_the_pool(place, corpus, capsys):
    found = []
    for row, u in enumerate(read_manifest(corpus)):
        split = u.split if u.split == "train" else "test" if row % 4 else "validation"
        found.append(replace(u, corpus=f"c{row % 2}", language=("en", "fr", None)[row % 3], split=split))
    write_manifest(place / "m.jsonl", found)
    several = "--data.corpora.init_args.path=m.jsonl"
    assert run("fit", "--trainer.max_epochs=1", several) == 0
    assert run("test", "--ckpt_path=last", several) == 0
    printed = capsys.readouterr().out
    table = [
        line.split() for line in printed.splitlines() if line.startswith(("all ", "corpus ", "language ", "mean "))
    ]
    counts = {" ".join(cells[:2]): cells[2] for cells in table if cells[0] in ("corpus", "language")}
    tested = [u for u in found if u.split == "test"]
    for kind in ("corpus", "language"):
        for name in {getattr(u, kind) for u in tested} - {None}:
            assert counts[f"{kind} {name}"] == str(sum(getattr(u, kind) == name for u in tested))
    assert sum(1 for cells in table if cells[0] == "mean") == 2
    logged = {key: value for row in rows(place / "logs/run/test/metrics.csv") for key, value in row.items() if value}
    assert table[0][2] == f"{float(logged['test/unweighted_accuracy']):.3f}"
    accuracies = [float(logged[f"test/weighted_accuracy/corpus/{name}"]) for name in ("c0", "c1", "mean")]
    assert sum(accuracies[:2]) / 2 == pytest.approx(accuracies[2], abs=1e-5)


def test_a_dry_run_exports_nothing(place):
    assert run("fit", "--trainer.max_epochs=1") == 0
    before = contents(place / "out"), contents(place / "logs/run")
    assert run("fit", "--trainer.fast_dev_run=true") == 0
    assert (contents(place / "out"), contents(place / "logs/run")) == before


def test_a_loss_that_is_no_number_ends_the_run_and_is_named(place, capsys):
    assert run("fit", "--trainer.max_epochs=1") == 0
    before = contents(place / "out")
    broken = "--model.auxiliary_losses.mine=my_losses.Broken"
    assert run("fit", "--again=true", broken) == 2
    error = last_line(capsys)
    assert error.startswith("error: train/mine_loss is NaN") and "after 3 optimiser steps" in error
    assert contents(place / "out") == before
    for path in (place / "logs/run").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values())


def test_figures_that_are_no_numbers_are_valid_json(place, monkeypatch):
    from empathy_lightning.losses import RatingLoss

    forward = RatingLoss.forward
    monkeypatch.setattr(
        RatingLoss, "forward", lambda self, o, b: forward(self, o, b) * (1.0 if self.training else float("nan"))
    )
    assert run("fit") == 0
    history = json.loads((place / "out/training.json").read_text(), parse_constant=pytest.fail)["history"]
    assert history[-1]["validation/rating_loss"] is None and history[-1]["validation/categorical_loss"] > 0
    assert all(value.isfinite().all() for value in load_file(place / "out/model.safetensors").values())


def test_weights_that_are_no_numbers_are_not_exported(place, monkeypatch, capsys):
    """A gradient may be NaN where the loss is not."""
    from empathy_lightning.tasks import EmotionNuanceTask

    def _break(task):
        with torch.no_grad():
            task.model.listener.emotion_nuance.categorical_head.weight[0, 0] = float("inf")

    monkeypatch.setattr(EmotionNuanceTask, "on_train_end", _break, raising=False)
    assert run("fit", "--trainer.enable_checkpointing=false", '--trainer.callbacks=[{"class_path": '
               '"empathy_lightning.tasks.Export", "init_args": {"folder": "out"}}]') == 2  # fmt: skip
    assert "emotion_nuance.categorical_head.weight is NaN or infinite" in last_line(capsys)
    assert not (place / "out").exists()


def started(place, *words):
    """A run in a process of its own, after its seventh batch."""
    slow = "--model.auxiliary_losses.slow=my_losses.Slow"
    process = fork(["fit", "--config", "run.yaml", slow, *words], place)
    called = place / "called"
    while process.poll() is None and not (called.is_file() and called.stat().st_size >= 7):
        time.sleep(0.05)
    return process


def test_a_second_run_in_the_folders_of_one_at_work_is_refused(place, capsys):
    process = started(place, "--trainer.max_epochs=40")
    before = contents(place / "logs/run")["config.yaml"]
    for words in (["--ckpt_path=last"], ["--again=true"], ["--again=true", "--trainer.logger=false"]):
        assert run("fit", "--model.optimizer.lr=0.5", *words) == 2
        assert "another fit is at work in" in last_line(capsys)
    assert contents(place / "logs/run")["config.yaml"] == before and process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The lock is gone with the process, however it ended.
    assert run("fit", "--again=true", "--trainer.max_epochs=1") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_tells(place, number, code):
    process = started(place, "--trainer.max_epochs=40", "--trainer.accumulate_grad_batches=2", "--data.batch_size=5")
    process.send_signal(number)
    assert process.wait().returncode == code, process.stderr
    assert f"{number.name} after step" in process.stderr and "Traceback" not in process.stderr
    saved = torch.load(place / "logs/run/last.ckpt", weights_only=True)
    # No step is half made, and nothing is exported.
    batches = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]
    assert saved["global_step"] == batches / 2 >= 3
    assert not (place / "out").exists()


def words_that_signal(moment, number=signal.SIGTERM):
    """A callback that sends its process a signal at a moment."""
    callback = {"class_path": "tests.tasks.watch.Signalled", "init_args": {"moment": moment, "number": int(number)}}
    return f"--trainer.callbacks+={json.dumps(callback)}"


def ended(place, *words):
    """A command in a process of its own, to its end."""
    return fork([words[0], "--config", "run.yaml", *words[1:]], place).wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_last_validation_saves_and_exports_nothing(place, number, code):
    once = "--trainer.max_epochs=1"
    assert run("fit", once) == 0
    whole = contents(place / "out")
    (place / "out").rename(place / "whole")
    stopped = ended(place, "fit", once, "--again=true", words_that_signal("on_validation_end", number))
    assert stopped.returncode == code, stopped.stderr
    assert f"{number.name} after step 5: saved " in stopped.stderr and "last.ckpt: go on" in stopped.stderr
    assert "Traceback" not in stopped.stderr and not (place / "out").exists()
    assert run("fit", once, "--ckpt_path=last") == 0
    assert contents(place / "out")["model.safetensors"] == whole["model.safetensors"]
    histories = [json.loads((place / name / "training.json").read_text())["history"] for name in ("whole", "out")]
    assert histories[0] == histories[1]


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("fit", "on_fit_start"), ("fit", "on_sanity_check_start"), ("fit", "on_train_start"), ("fit", "on_fit_end"),
     ("test", "on_test_start"), ("test", "on_test_batch_end"), ("validate", "on_validation_batch_end")],
)  # fmt: skip
def test_a_signal_where_nothing_is_to_be_saved_ends_at_once(place, kind, moment):
    words = [] if kind == "fit" else ["--untrained=true"]
    stopped = ended(place, kind, *words, words_that_signal(moment))
    # Where Python is not asked, the signal itself ends the process.
    assert stopped.returncode in (143, -signal.SIGTERM), stopped.stderr
    assert "Traceback" not in stopped.stderr and "after step" not in stopped.stderr
    assert not list(place.glob("logs/run/**/metrics.csv")) or kind == "fit"


def test_curves_go_on_and_tests_write_beside_them(place):
    assert run("fit", "--trainer.max_epochs=3", "--trainer.limit_val_batches=0") == 0
    whole = rows(place / "logs/run/metrics.csv")
    assert run("fit", "--trainer.max_epochs=1", "--again=true", "--trainer.limit_val_batches=0") == 0
    # The process died after the checkpoint: what it wrote after it comes again.
    with (place / "logs/run/metrics.csv").open("a", newline="") as file:
        csv.DictWriter(file, list(rows(place / "logs/run/metrics.csv")[0])).writerow({"step": 5, "epoch": 1})
    resumed = "--ckpt_path=logs/run/last.ckpt"
    assert run("fit", "--trainer.max_epochs=3", resumed, "--trainer.limit_val_batches=0") == 0
    assert [row["step"] for row in rows(place / "logs/run/metrics.csv")] == [row["step"] for row in whole]
    before = contents(place / "logs/run")
    assert run("test", "--ckpt_path=last") == 0
    assert contents(place / "logs/run") == before
    assert {path.name for path in (place / "logs/run/test").iterdir()} >= {"metrics.csv", "test.config.yaml"}
    assert rows(place / "logs/run/test/metrics.csv")[0]["test/loss"]


@pytest.mark.parametrize("gone", [False, True])
def test_the_best_weights_follow_a_run_into_other_folders(place, capsys, gone):
    """The fewest steps are called the best: those of the first epoch."""
    text = (place / "run.yaml").read_text()
    settings = yaml.safe_load(text)
    for callback in settings["trainer"]["callbacks"]:
        if callback["init_args"].get("monitor"):
            callback["init_args"] |= {"monitor": "step", "mode": "min"}
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    assert run("fit") == 0
    first = contents(place / "out")["model.safetensors"]
    moved = yaml.safe_dump(settings).replace("logs", "elsewhere").replace(": out", ": other")
    (place / "run.yaml").write_text(moved)
    if gone:
        (best,) = [path for path in (place / "logs/run").glob("*.ckpt") if path.name != "last.ckpt"]
        best.unlink()
    assert run("fit", "--trainer.max_epochs=4", "--ckpt_path=logs/run/last.ckpt") == 0
    assert (contents(place / "other")["model.safetensors"] == first) is not gone
    assert ("are gone: the best counts from here on" in capsys.readouterr().out) is gone


def test_a_folder_of_another_run_is_refused(place, capsys):
    once = ["--trainer.max_epochs=1"]
    assert run("fit", *once) == 0
    steps = torch.load(place / "logs/run/last.ckpt", weights_only=True)["global_step"]
    before = contents(place / "out"), contents(place / "logs/run")
    assert run("fit", *once) == 2
    assert "metrics.csv is of another run: go on with --ckpt_path last" in last_line(capsys)
    assert (contents(place / "out"), contents(place / "logs/run")) == before
    assert run("fit", "--trainer.max_epochs=2", "--ckpt_path=last") == 0
    assert torch.load(place / "logs/run/last.ckpt", weights_only=True)["global_step"] == 2 * steps
    assert run("fit", *once, "--again=true") == 0
    assert torch.load(place / "logs/run/last.ckpt", weights_only=True)["global_step"] == steps


def test_last_begins_where_nothing_was_saved(place, capsys):
    assert run("fit", "--ckpt_path=last", "--trainer.max_epochs=1") == 0
    assert (place / "out/config.json").is_file()
    assert run("fit", "--ckpt_path=nowhere.ckpt") == 2
    assert "no checkpoint at nowhere.ckpt" in last_line(capsys)


def damaged(place, kind):
    """Something in the place of a checkpoint."""
    path = place / ("weights.safetensors" if kind == "safetensors" else f"{kind}.ckpt")
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("of somebody")
    elif kind == "empty":
        path.touch()
    elif kind == "cut":
        torch.save({"state_dict": torch.zeros(10000)}, path)
        path.write_bytes(path.read_bytes()[:20000])
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "pickled":
        path.write_bytes(pickle.dumps([1, 2]))
    elif kind == "objects":
        torch.save({"state_dict": {}, "place": place}, path)
    elif kind == "safetensors":
        save_file({"weight": torch.zeros(2)}, path)
    else:
        torch.save({"state_dict": {"weight": torch.zeros(2)}}, path)
    return path


NO_CHECKPOINT = {
    "folder": "is a folder: give --ckpt_path a file",
    "text": "is no checkpoint, or was cut",
    "empty": "is empty: give --ckpt_path a file",
    "cut": "is no checkpoint, or was cut",
    "list": "is no checkpoint of a training, it has no state_dict",
    "pickled": "is no checkpoint, or was cut",
    "objects": "holds more than tensors, numbers and texts",
    "safetensors": "is no checkpoint",  # newer versions of torch read it, and then find no state_dict
    "weights": "is no checkpoint of a training, it has no pytorch-lightning_version",
}


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_what_is_no_checkpoint_is_told_before_a_model_is_loaded(command, place, unloaded, capsys):
    for kind in NO_CHECKPOINT if command == "fit" else ["text", "folder"]:
        path = damaged(place, kind)
        assert run(command, f"--ckpt_path={path}") == 2
        line = last_line(capsys)
        assert line.startswith(f"error: {path} ") and NO_CHECKPOINT[kind] in line
    assert not (place / "logs").exists()


def test_a_last_checkpoint_that_is_damaged_is_named(place, unloaded, capsys):
    last = place / "logs/run/last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_text("of somebody")
    for command in ("fit", "test"):
        assert run(command, "--ckpt_path=last") == 2
        assert "logs/run/last.ckpt is no checkpoint, or was cut" in last_line(capsys)
    assert last.read_text() == "of somebody"


def test_no_training_goes_on_from_weights_alone(place, capsys):
    assert run("fit", "--trainer.max_epochs=1") == 0
    state = torch.load(place / "logs/run/last.ckpt", weights_only=True)
    del state["optimizer_states"]
    torch.save(state, place / "weights.ckpt")
    assert run("test", "--ckpt_path=weights.ckpt") == 0
    assert run("fit", "--ckpt_path=weights.ckpt", "--again=true") == 2
    assert "weights.ckpt holds weights alone, without optimizer_states" in last_line(capsys)


def test_a_log_without_terminal_shows_progress_and_no_advertisement(place):
    process = started(place, "--trainer.max_epochs=2")
    assert process.wait().returncode == 0, process.stderr
    output, error = process.stdout, process.stderr
    for advertised in ("litlogger", "litmodels", "FLOPs", "exists and is not empty", "TPU", "Loading"):
        assert advertised not in output + error
    assert "epoch 2 of 2, step 10 of 10" in output and "train/loss" in output
    (frozen,) = [line for line in output.splitlines() if line.startswith("listener.speech_encoder")]
    (trains,) = [line for line in output.splitlines() if line.startswith("listener.emotion_nuance")]
    assert frozen.endswith("frozen") and trains.endswith("trains")
    for place_ in ("out", "last.ckpt", "logs/run"):
        assert any(line.endswith(place_) for line in output.splitlines()[-4:]), output[-500:]


def heads_left_out(folder):
    return arguments_in(folder)["listener"]["untrained_heads"]


def recognised(corpus, folder):
    """Answers of `evaluate emotion` for a folder."""
    words = ["--checkpoint", str(folder), "--manifest", str(corpus), "--by=classifier", "--out=figures.json"]
    assert main(["evaluate", "emotion", *words]) == 0
    return json.loads((folder.parent / "figures.json").read_text())


def test_heads_that_no_loss_trained_hear_nothing(place, corpus, capsys):
    once = ["--trainer.max_epochs=1", "--again=true"]
    only = "--model.auxiliary_losses={{{name}: {{class_path: empathy_lightning.losses.{name}Loss}}}}".format
    assert run("fit", *once, only(name="Categorical")) == 0
    assert heads_left_out(place / "out") == list(RATINGS)
    figures = recognised(corpus, place / "out")
    assert not any("arousal" in answer for answer in figures["answers"]) and "concordance_arousal" not in figures
    # A later stage counts what the one before has trained.
    (place / "out").rename(place / "first")
    assert run("fit", *once, only(name="Rating"), "--model.initial_weights=[first]") == 0
    assert heads_left_out(place / "out") == []
    assert all("arousal" in answer for answer in recognised(corpus, place / "out")["answers"])
    assert run("fit", *once, only(name="Rating")) == 0
    assert heads_left_out(place / "out") == ["categorical"]
    words = ["--checkpoint=out", "--manifest", str(corpus), "--by=classifier"]
    assert main(["evaluate", "emotion", *words]) == 2
    assert "classifier was never trained" in last_line(capsys)


def test_a_bot_keeps_quiet_about_untrained_heads(model, corpus, tmp_path, capsys):
    model.listener.untrained_heads = ["categorical", "arousal", "valence", "dominance"]
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    words = [read_manifest(corpus)[0].path, "--checkpoint", str(tmp_path / "bot"), "--max_new_tokens=2"]
    assert main(["chat", *words, "--out", str(tmp_path / "replies"), "--explain"]) == 0
    (entry,) = json.loads((tmp_path / "replies/replies.json").read_text(), parse_constant=pytest.fail)
    assert entry["emotion"] is None and entry["probabilities"] == {} and entry["arousal"] is None
    assert "neutral" not in capsys.readouterr().out


def test_ratings_are_reported_in_their_scale(backbones, corpus, language_model, tmp_path):
    """RE-LLM's heads are linear."""
    heads = PooledEmotionHeads(32)
    for name in RATINGS:
        torch.nn.init.normal_(getattr(heads, f"{name}_head").weight, std=100)
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    save(
        tmp_path / "bot",
        spoken(whole(encoder, ConvolutionalAdapter(32, 32), language_model, heads), list(EMOTIONS)),
    )
    out, page = tmp_path / "figures.json", tmp_path / "page.html"
    words = ["--checkpoint", str(tmp_path / "bot"), "--manifest", str(corpus), "--by=classifier", "--out", str(out)]
    assert main(["evaluate", "emotion", *words, "--report", str(page)]) == 0
    ratings = [answer[name] for answer in json.loads(out.read_text())["answers"] for name in RATINGS]
    assert ratings and all(0 <= rating <= 1 for rating in ratings) and {0, 1} & set(ratings)
    assert "macro f1" in page.read_text().lower()


def test_a_plot_shows_all_its_points():
    figure = rating_scatter(
        {"arousal": torch.tensor([-0.35, 1.2])}, {"arousal": torch.tensor([0.1, 1.3])}, ["sad", "sad"]
    )
    (low, high), (left, right) = figure.axes[0].get_ylim(), figure.axes[0].get_xlim()
    assert low <= -0.35 and high >= 1.2 and left <= 0 and right >= 1.3


def test_weights_of_another_stage_are_not_measured(place, capsys):
    """A path alone is no proof of training."""
    torch.save({"state_dict": {"model.listener.speech_adapter.linear1.weight": torch.zeros(1)}}, place / "other.ckpt")
    saved = place / "logs/run/last.ckpt"
    assert run("fit", "--trainer.max_epochs=1") == 0
    state = torch.load(saved, weights_only=True)
    state["state_dict"] = {"model.listener.speech_adapter.linear1.weight": torch.zeros(1)}
    torch.save(state, place / "other.ckpt")
    for command in ("test", "validate", "fit"):
        assert run(command, "--ckpt_path=other.ckpt", *["--again=true"] * (command == "fit")) == 2
        assert "the checkpoint has no weights for model.listener.emotion_nuance." in last_line(capsys)


def test_a_resumed_run_keeps_the_settings_it_was_trained_with(place, capsys):
    assert run("fit", "--trainer.max_epochs=1") == 0
    assert run("fit", "--trainer.max_epochs=2", "--ckpt_path=last", "--model.optimizer.lr=0.5") == 2
    assert "was trained with optimizer.lr 0.0002, the configuration says 0.5: give --model.optimizer.lr" in last_line(
        capsys
    )
    assert run("fit", "--trainer.max_epochs=2", "--ckpt_path=last", "--model.loss_weights.rating=2") == 2
    assert "was trained with loss_weights" in last_line(capsys)


def test_again_removes_nothing_of_others_and_nothing_before_it_trains(place, capsys):
    (place / "precious.ckpt").write_text("of somebody")
    assert run("fit", "--trainer.max_epochs=1") == 0
    kept = contents(place / "logs/run")
    assert run("fit", "--again=true", "--ckpt_path=last") == 2
    assert "give one of them" in last_line(capsys)
    # Refused while it sets up: nothing that a run needs is there.
    assert run("fit", "--again=true", "--model.model.listener.emotion_nuance=null") == 2
    assert contents(place / "logs/run") == kept
    bare = ["--trainer.logger=false", "--trainer.callbacks=null", "--trainer.enable_checkpointing=false"]
    assert run("fit", "--again=true", "--trainer.max_epochs=1", *bare) == 0
    assert (place / "precious.ckpt").read_text() == "of somebody"


@pytest.fixture
def adapter(place, backbones):
    """The same folder with `adapter.yaml`, which trains a speech adapter."""
    content = yaml.safe_load((place / "run.yaml").read_text())
    content["trainer"]["callbacks"] = content["trainer"]["callbacks"][:2]
    content["trainer"]["callbacks"][0]["init_args"]["monitor"] = "validation/response_loss"
    encoder = content["model"]["init_args"]["model"]["listener"]["speech_encoder"]
    modules = "empathy_lightning.modules"
    content["model"] = {"class_path": "empathy_lightning.tasks.SpeechAdapterTask", "init_args": {"model": {
        "listener": {"speech_encoder": encoder, "speech_adapter": {
            "class_path": f"{modules}.speech_adapter.SpeechAdapter",
            "init_args": {"input_size": 32, "output_size": 32},
        }},
        "responder": {"language_model": {
            "class_path": f"{modules}.language_model.LanguageModel.from_pretrained",
            "init_args": {"name_or_path": str(backbones / "language_model")},
        }},
    }}}  # fmt: skip
    (place / "adapter.yaml").write_text(yaml.safe_dump(content))
    return place


def without(corpus, path, lacking, *fields):
    """The corpus, of which the utterances with these numbers lack these fields."""
    none = dict.fromkeys(fields)
    utterances = read_manifest(corpus)
    write_manifest(path, [replace(u, **none) if int(u.id) in lacking else u for u in utterances])
    return f"--data.corpora.path={path}"


def test_a_loss_that_has_nothing_to_learn_from_is_refused(place, corpus, capsys):
    unrated = without(corpus, place / "unrated.jsonl", range(20), *RATINGS)
    assert run("fit", unrated) == 2
    assert "rating: no training utterance has arousal or valence or dominance" in last_line(capsys)
    once = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--again=true"]
    assert run("fit", unrated, "--model.loss_weights.rating=0", *once) == 0
    assert run("fit", without(corpus, place / "some.jsonl", range(1, 20), *RATINGS), *once) == 0
    assert run("fit", unrated, "--data.protocol=null", "--model.auxiliary_losses.rating=my_losses.Slow", *once) == 0
    votes = "--model.auxiliary_losses.categorical=empathy_lightning.losses.SoftLabelLoss"
    assert run("fit", votes, *once) == 2
    assert "categorical: no training utterance has emotion_votes" in last_line(capsys)
    bare = without(corpus, place / "bare.jsonl", range(20), "emotion")
    assert run("fit", bare, "--data.allow_empty_classes=true", *once) == 2
    assert "categorical: no training utterance has an emotion" in last_line(capsys)


def test_utterances_that_would_train_nothing_are_told_and_refused(adapter, corpus, capsys):
    words = ["fit", "--config", "adapter.yaml", "--trainer.limit_train_batches=1", "--trainer.max_epochs=1"]
    words += ["--again=true", without(corpus, adapter / "few.jsonl", range(2, 20), "response")]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "2 of 20 training utterances have a response" in told
    assert "18 of 20 utterances would be lost: 18 without a response" in told.splitlines()[-1]
    assert "--data.max_left_out 0.9" in told.splitlines()[-1]
    assert main([*words, "--data.max_left_out=0.9"]) == 0
    mixture = {"corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": str(corpus)}}],
               "share": 0.5}  # fmt: skip
    assert main([*words, f"--data.mixed_in=[{json.dumps(mixture)}]"]) == 0
    # What has a label trains an auxiliary loss that reads it.
    assert main([*words, "--model.auxiliary_losses.mine=my_losses.Labels"]) == 0


def test_unreadable_files_are_a_share_of_their_own_split(place, corpus, capsys):
    """One of 5 files of the test split; of all 30 it would be few enough."""
    utterances = read_manifest(corpus)
    (place / "bad.wav").write_bytes(b"RIFF of nothing")
    write_manifest(place / "m.jsonl", [*utterances[:-1], replace(utterances[-1], path=str(place / "bad.wav"))])
    words = [f"--data.corpora.path={place / 'm.jsonl'}", "--untrained=true"]
    assert run("test", *words) == 2
    said = last_line(capsys)
    assert "1 of 5 files of the test split cannot be read" in said and "--data.max_unreadable 0.2" in said
    with pytest.warns(UserWarning, match="left out: .*bad.wav"):
        assert run("test", *words, "--data.max_unreadable=0.2") == 0
    assert run("validate", *words) == 0


@pytest.mark.parametrize("wrong", ["batch_size=0", "batch_seconds=-1", "num_workers=-1", "max_seconds=0"])
def test_sizes_that_no_batch_can_have_are_refused(place, wrong, capsys):
    assert run("fit", f"--data.{wrong}") == 2
    assert f"data.{wrong.partition('=')[0]} is" in last_line(capsys)
