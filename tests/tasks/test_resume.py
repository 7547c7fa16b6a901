"""A run that was stopped, at whatever moment a checkpoint was saved, ends as one that was not."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest
from tests.conftest import ROOT

WATCH = "tests.tasks.watch.Moments"


def part(name, **arguments):
    return {"class_path": f"empathy_lightning.{name}", "init_args": arguments}


def configuration(corpus, backbones, kind):
    """A trainer of tiny size, with all that draws at random."""
    parts = {
        "speech_encoder": part("modules.convolutional_encoder.ConvolutionalEncoder", hidden_size=16, channels=[4, 4]),
        "emotion_nuance": part(
            "modules.emotion_nuance.EmotionNuance",
            input_size=16, output_size=8, hidden_size=8, gate_size=4, num_heads=2, dropout=0.2,
        ),
    }  # fmt: skip
    arguments = {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}}
    if kind == "EmotionNuanceTask":
        arguments["auxiliary_losses"] = {"categorical": part("losses.CategoricalLoss")}
    else:
        name = str(backbones / "language_model")
        parts["language_model"] = part("modules.language_model.LanguageModel.from_pretrained", name_or_path=name)
        parts.pop("emotion_nuance")
    if kind == "SpeechAdapterTask":
        parts["speech_adapter"] = part("modules.speech_adapter.SpeechAdapter", input_size=16, output_size=32)
        arguments["trainable"] = ["listener.speech_adapter.*", "listener.speech_encoder.*"]
    talker = {}
    if kind == "SpeechDecoderTask":
        talker["speech_decoder"] = part(
            "modules.speech_decoder.SpeechDecoder", input_size=32, text_vocab_size=300, end_token_id=0, num_units=8,
            body={"hidden_size": 16, "num_layers": 1, "num_heads": 2}, schedule=[3, 12],
        )  # fmt: skip
    responder = {name: parts.pop(name) for name in ("language_model",) if name in parts}
    if talker:
        # Its prompts are words.
        responder["speech_slot"] = part("slots.Transcript")
    halves = {"listener": parts, "responder": responder, "talker": talker}
    arguments["model"] = {name: half for name, half in halves.items() if half}
    data = {"corpora": [part("data.Manifest", path=str(corpus))], "batch_seconds": 3, "pool_batches": 2}
    trainer = {
        "max_epochs": 2, "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False,
    }  # fmt: skip
    return {"trainer": trainer, "data": data, "model": part(f"tasks.{kind}", **arguments)}


def run(settings, folder, *words, checkpoints=None, resume=None):
    """Fit in this process; what was heard, what was exported, and the history of its figures."""
    settings = json.loads(json.dumps(settings))
    watch = {"folder": None if checkpoints is None else str(checkpoints), "heard": str(folder)}
    callbacks = settings["trainer"].setdefault("callbacks", [])
    callbacks += [part("tasks.Export", folder=str(folder / "export")), {"class_path": WATCH, "init_args": watch}]
    settings["trainer"]["default_root_dir"] = str(folder)
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    ckpt_path = [] if resume is None else [f"--ckpt_path={resume}"]
    assert main(["fit", "--config", str(folder / "run.yaml"), *words, *ckpt_path]) == 0
    return heard(folder), exported(folder / "export")


def heard(folder, rank=0):
    path = folder / f"heard.{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def exported(folder):
    """All that a stage leaves behind, times apart."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    facts = json.loads(files.pop("training.json"))
    del facts["seconds"]
    return files, facts


AVERAGED = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
MIXTURE = {"share": 0.3, "answer": "emotion", "prompt": "{speech} What tone?"}


def settings_of(case, corpus, backbones):
    """Trainers with what can make a resumed run another one."""
    kind = {"adapter": "SpeechAdapterTask", "decoder": "SpeechDecoderTask"}.get(case, "EmotionNuanceTask")
    settings = configuration(corpus, backbones, kind)
    trainer, data = settings["trainer"], settings["data"]
    if case == "accumulated":
        trainer |= {"accumulate_grad_batches": 2, "val_check_interval": 0.5, "callbacks": [AVERAGED]}
    if case == "augmented":
        data |= {"augmentation": part("data.augmentation.Augmentation"), "num_workers": 2, "weights": {"tones": 1.5}}
        trainer |= {"check_val_every_n_epoch": 2, "limit_train_batches": 6}
    if case == "adapter":
        data["mixed_in"] = [{**MIXTURE, "corpora": data["corpora"]}]
    return settings


def after_the_adapter(settings, corpus, backbones, folder):
    """The speech decoder's trainer, with an adapter from a stage before it."""
    before = configuration(corpus, backbones, "SpeechAdapterTask")
    run(before, folder, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1")
    arguments = settings["model"]["init_args"]
    arguments["initial_weights"] = [str(folder / "export")]
    adapter = before["model"]["init_args"]["model"]["listener"]["speech_adapter"]
    arguments["model"]["listener"]["speech_adapter"] = adapter


@pytest.mark.parametrize(
    ("case", "every"), [("plain", 2), ("accumulated", 4), ("augmented", 6), ("adapter", 6), ("decoder", 9)]
)
def test_from_any_moment_to_the_same_end(case, every, corpus, backbones, tmp_path):
    settings = settings_of(case, corpus, backbones)
    if case == "decoder":
        after_the_adapter(settings, corpus, backbones, tmp_path / "adapter")
    all_heard, end = run(settings, tmp_path / "whole", checkpoints=tmp_path / "moments")
    moments = sorted((tmp_path / "moments").iterdir())
    kinds = {moment.stem.partition("_")[2] for moment in moments}
    assert kinds == {"next_epoch", "batch", "validation_begins", "validation_batch", "validated", "epoch", "end"}
    # Some in the first epoch, all of the second's end: its last batch, its validation, the epoch's and the run's end.
    early = [moment for moment in moments if "next_epoch" in moment.stem]
    for moment in sorted({*moments[1:-8:every], *early, *moments[-8:]}):
        if case == "accumulated" and "validation_b" in moment.stem:
            continue  # The averaged weights stand in the place of the others then; no callback saves there.
        rest, resumed_end = run(settings, tmp_path / moment.stem, resume=moment)
        assert rest == all_heard[len(all_heard) - len(rest) :], moment.stem
        assert resumed_end == end, moment.stem


def training_ids(lines, epoch):
    return [name for kind, when, ids in lines if kind == "train" and when == epoch for name in ids]


@pytest.mark.parametrize("words", [["--data.batch_size=1"], ["--data.batch_seconds=9", "--data.pool_batches=32"]])
def test_other_batches_go_on_with_the_utterances_that_are_left(words, corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    first, _ = run(settings, tmp_path / "whole", checkpoints=tmp_path / "moments")
    utterances = Counter(u.id for u in read_manifest(corpus) if u.split == "train")
    batches = [path for path in sorted((tmp_path / "moments").iterdir()) if path.stem.endswith("batch")]
    checkpoint = batches[3]
    done = torch.load(checkpoint, weights_only=True)["EmpathyDataModule"]["parts"][0]["batches"]
    before = [name for _, _, ids in first[:done] for name in ids]
    rest, (_, facts) = run(settings, tmp_path / "rest", *words, checkpoints=tmp_path / "again", resume=checkpoint)
    assert Counter([*before, *training_ids(rest, 0)]) == utterances == Counter(training_ids(rest, 1))
    assert [epoch for kind, epoch, _ in rest if kind == "validation"] == [0, 1]
    assert rest[-1][0] == "validation" and len(facts["history"]) == 2
    # Stopped again, and back to the first batches: what both runs have heard is known.
    again = [path for path in sorted((tmp_path / "again").iterdir()) if path.stem.endswith("batch")][1]
    before += [name for _, _, ids in rest[:2] for name in ids]
    rest, _ = run(settings, tmp_path / "third", resume=again)
    assert Counter([*before, *training_ids(rest, 0)]) == utterances == Counter(training_ids(rest, 1))


def test_the_rate_goes_on_at_the_same_share_of_the_run(corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    run(settings, tmp_path / "whole", checkpoints=tmp_path / "moments")
    half = next(path for path in sorted((tmp_path / "moments").iterdir()) if path.stem.endswith("epoch"))
    rate = torch.load(half, weights_only=True)["lr_schedulers"][0]["_last_lr"][0]
    words = ["--data.batch_size=1", "--trainer.max_epochs=2"]
    run(settings, tmp_path / "rest", *words, checkpoints=tmp_path / "again", resume=half)
    after = [path for path in sorted((tmp_path / "again").iterdir()) if path.stem.endswith("batch")]
    schedules = [torch.load(path, weights_only=True)["lr_schedulers"][0] for path in after]
    # Twenty utterances one by one: the second half of forty steps.
    assert schedules[0]["last_epoch"] == 21 and schedules[-1]["last_epoch"] == 40
    assert schedules[0]["_last_lr"][0] == pytest.approx(rate, abs=1e-3) and schedules[-1]["_last_lr"][0] < 1e-6


def test_the_middle_of_an_epoch_over_other_data_is_refused(corpus, backbones, tmp_path, capsys):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    run(settings, tmp_path / "whole", checkpoints=tmp_path / "moments")
    moments = sorted((tmp_path / "moments").iterdir())
    config = ["--config", str(tmp_path / "whole" / "run.yaml"), "--data.seed=1", "--again=true"]
    assert main(["fit", *config, f"--ckpt_path={moments[2]}"]) == 2
    assert "another data.seed" in capsys.readouterr().err


SAVED = {
    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
    "init_args": {"every_n_train_steps": 1, "save_top_k": 0, "save_last": True, "enable_version_counter": False},
}


def command(folder, *words):
    """The command line in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    return subprocess.run(
        [sys.executable, "-m", "empathy_lightning", "fit", "--config", str(folder / "run.yaml"), *words],
        capture_output=True, text=True, timeout=600, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip


def test_a_process_that_is_killed_while_it_saves_leaves_the_checkpoint_before(corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    saver = {**SAVED, "init_args": {**SAVED["init_args"], "dirpath": str(tmp_path / "saved")}}
    settings["trainer"] |= {"callbacks": [saver], "enable_checkpointing": True}
    all_heard, end = run(settings, tmp_path / "whole")
    kill = {"class_path": "tests.tasks.watch.Killed", "init_args": {"step": 4}}
    assert command(tmp_path / "whole", "--trainer.callbacks+=" + json.dumps(kill), "--again=true").returncode == -9
    assert (tmp_path / "saved" / ".last.ckpt").read_bytes() == b"half of it"
    rest, resumed_end = run(settings, tmp_path / "rest", resume=tmp_path / "saved" / "last.ckpt")
    assert rest == all_heard[3:] and resumed_end == end
    assert not (tmp_path / "saved" / ".last.ckpt").exists()


def run_in_two(settings, folder, checkpoints=None, resume=None):
    """Fit in two processes, started by the command line; the batches of each, and what was exported."""
    settings = json.loads(json.dumps(settings))
    settings["trainer"] |= {"devices": 2, "strategy": "ddp"}
    watch = {"folder": None if checkpoints is None else str(checkpoints), "heard": str(folder)}
    callbacks = [part("tasks.Export", folder=str(folder / "export")), {"class_path": WATCH, "init_args": watch}]
    settings["trainer"]["callbacks"] = callbacks
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    done = command(folder, *([f"--ckpt_path={resume}"] if resume else []))
    assert done.returncode == 0, done.stderr[-3000:]
    return [heard(folder, rank) for rank in (0, 1)], exported(folder / "export")


def test_one_process_goes_on_where_two_were_stopped_and_two_where_one_was(corpus, backbones, tmp_path):
    settings = configuration(corpus, backbones, "EmotionNuanceTask")
    settings["data"]["batch_size"] = 2
    utterances = Counter(u.id for u in read_manifest(corpus) if u.split == "train")
    whole, end = run_in_two(settings, tmp_path / "two", checkpoints=tmp_path / "of_two")
    checkpoint = sorted((tmp_path / "of_two").iterdir())[2]
    before = [name for lines in whole for _, _, ids in lines[:3] for name in ids]
    rest, resumed_end = run_in_two(settings, tmp_path / "two_again", resume=checkpoint)
    assert rest == [lines[3:] for lines in whole] and resumed_end == end
    alone, _ = run(settings, tmp_path / "one", checkpoints=tmp_path / "of_one", resume=checkpoint)
    assert Counter([*before, *training_ids(alone, 0)]) == utterances == Counter(training_ids(alone, 1))
    # On from there, still inside the first epoch: a third division of it.
    checkpoint = sorted((tmp_path / "of_one").iterdir())[1]
    before += [name for _, _, ids in alone[:2] for name in ids]
    rest, _ = run_in_two(settings, tmp_path / "two_once_more", resume=checkpoint)
    for epoch, earlier in ((0, before), (1, [])):
        assert Counter([*earlier, *(name for lines in rest for name in training_ids(lines, epoch))]) == utterances
