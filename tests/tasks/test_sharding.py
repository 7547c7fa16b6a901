"""Two real processes share the frozen language model, and train to the same weights as one process or as DDP."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning.pytorch.trainer.states import TrainerFn

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.mixture import MixedIn
from empathy_lightning.errors import InputError
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.tasks.sharding import check_all_alike, shard_blocks
from tests.conftest import ROOT, SENTENCE
from tests.tiny import filled, tokens_of

RECIPE, PRESET = (ROOT / "examples" / name for name in ("freezeempath/1_semantic_alignment.yaml", "presets/fsdp.yaml"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


def words(backbones, corpus, folder, **trainer):
    """Arguments of the recipe at tiny size; precision, gradient clipping and the model's dtype are its own."""
    content = {
        "backbones": {
            "speech_encoder": str(backbones / "speech_encoder"), "frame_size": 32, "embedding_size": 32,
            "language_model": str(backbones / "language_model"),
        },
        "trainer": {
            "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
            "callbacks": [
                {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {
                    "dirpath": str(folder / "steps"), "filename": "{step}", "every_n_train_steps": 2,
                    "save_top_k": -1, "monitor": None, "save_last": None}},
                {"class_path": "empathy_lightning.tasks.Export", "init_args": {"folder": str(folder / "export")}},
                {"class_path": "tests.tasks.watch.Watch", "init_args": {"folder": str(folder / "watch")}},
            ],
            **trainer,
        },
        "data": {
            "num_workers": 0, "batch_size": 2,
            "corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": str(corpus)}}],
        },
    }  # fmt: skip
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    return ["fit", "--config", str(RECIPE), "--config", str(PRESET), "--config", str(folder / "tiny.yaml")]


def together(command, folder):
    """Lightning starts the second process itself."""
    done = subprocess.run(
        [sys.executable, "-m", "empathy_lightning", *command],
        capture_output=True, text=True, timeout=300, env=ENVIRONMENT, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def result(folder, processes):
    watched = [torch.load(folder / f"watch/{rank}.pt", weights_only=True) for rank in range(processes)]
    return load(folder / "export"), json.loads((folder / "export/training.json").read_text()), watched


def adapter(checkpoint):
    return dict(checkpoint.listener.speech_adapter.named_parameters())


def in_blocks(name):
    return "language_model" in name and ".layers." in name


def test_the_preset_trains_exports_and_resumes_as_one_process_does(backbones, corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # One process that takes twice the batches for a step sees the same batches in every step.
    alone = words(
        backbones, corpus, tmp_path / "alone", devices=1, strategy="auto", accumulate_grad_batches=4,
        limit_train_batches=10,
    )  # fmt: skip
    assert main(alone) == 0
    two = {"devices": 2, "limit_train_batches": 5}
    command = words(backbones, corpus, tmp_path / "shared", **two)
    together(command, tmp_path)
    expected, facts, (one,) = result(tmp_path / "alone", 1)
    shared, shared_facts, processes = result(tmp_path / "shared", 2)

    for rank, process in enumerate(processes):
        assert process["losses"] == pytest.approx(one["losses"][rank::2], rel=1e-4)
        for name, (whole, here) in process["held"].items():
            assert prod(here) == prod(whole) / 2 if in_blocks(name) else here == whole
        blocks = [sum(prod(s[k]) for n, s in process["held"].items() if in_blocks(n)) for k in (0, 1)]
        assert blocks[1] * 2 == blocks[0] > 0
    for name, weight in adapter(shared).items():
        # The language model runs whole here, in parts there: in bfloat16 AdamW turns a few roundings into steps.
        assert ((weight - adapter(expected)[name]).abs() < 2e-5).float().mean() > 0.95
    assert shared_facts["frozen_unchanged"] and shared_facts["frozen_sha256"] == facts["frozen_sha256"]
    assert shared_facts["history"][-1]["validation/response_loss"] > 0
    replies = [tokens_of(c, filled(c, [SENTENCE.text, "hm"], None), max_new_tokens=8) for c in (expected, shared)]
    assert replies[0] == replies[1]

    middle = tmp_path / "shared/steps/step=2.ckpt"
    saved = torch.load(middle, weights_only=True)["state_dict"]
    assert saved.keys() == {f"model.listener.speech_adapter.{name}" for name in adapter(shared)}
    assert all(type(value) is torch.Tensor for value in saved.values())
    command = words(backbones, corpus, tmp_path / "resumed", **two)
    together([*command, f"--ckpt_path={middle}"], tmp_path)
    resumed, resumed_facts, watched = result(tmp_path / "resumed", 2)
    assert [len(process["losses"]) for process in watched] == [1, 1]
    assert all(torch.equal(weight, adapter(shared)[name]) for name, weight in adapter(resumed).items())
    assert resumed_facts["frozen_unchanged"] and resumed_facts["frozen_sha256"] == facts["frozen_sha256"]


@pytest.fixture(scope="module")
def processes(backbones, corpus, tmp_path_factory):
    """What each of two processes saw; see sharded_run."""
    out = tmp_path_factory.mktemp("sharded")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, str(ROOT / "tests/tasks/sharded_run.py"), str(backbones), str(corpus), str(out)]
    running = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**ENVIRONMENT, "LOCAL_RANK": str(rank), "MASTER_PORT": port},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in running:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in running:
            process.kill()
    return [torch.load(out / f"process{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("kind", ["distillation", "partial_lora", "block", "nuance", "prompts", "decoder"])
def test_every_kind_of_training_is_that_of_ddp(processes, kind):
    """Also where the model runs several times a step, computes blocks twice, or trains inside a block."""
    for copied, shared in (process[kind] for process in processes):
        assert all(torch.equal(value, copied["start"][name]) for name, value in shared["start"].items())
        assert any(not torch.equal(value, shared["start"][name]) for name, value in shared["trained"].items())
        for name, value in shared["trained"].items():
            # With shards the language model runs whole, with copies in parts: equal but for rounding.
            torch.testing.assert_close(value, copied["trained"][name], rtol=1e-4, atol=2e-5)
        assert shared["figures"] == pytest.approx(copied["figures"], rel=1e-4, abs=1e-7, nan_ok=True)
        halved = {name for name, shape in shared["held"].items() if shape != copied["held"][name]}
        trained = ".layers.1." if kind == "block" else " "
        assert halved == {name for name in shared["held"] if in_blocks(name) and trained not in name}
    first, second = (process[kind][1]["trained"] for process in processes)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_hash_of_frozen_weights_covers_every_process_s_share(processes):
    for copied, shared in (process["nuance"] for process in processes):
        before, after = shared["digests"]
        assert before == copied["digests"][0] != after
    assert processes[0]["nuance"][1]["digests"] == processes[1]["nuance"][1]["digests"]


def test_what_would_make_processes_wait_is_refused(processes):
    for process in processes:
        partly, groups = process["refused"]
        assert "1 train utterances (3 first) have no response" in partly
        assert "2 processes cannot be divided into groups of 3" in groups


def test_utterances_mixed_in_must_be_alike_too(corpus, tmp_path):
    rows = read_manifest(corpus)
    write_manifest(tmp_path / "silent.jsonl", [replace(u, response=None) for u in rows])
    task = MixedIn([Manifest(str(corpus))], 0.5, answer="transcript")
    data = EmpathyDataModule([Manifest(str(tmp_path / "silent.jsonl"))], mixed_in=[task])
    data.setup("fit")
    with pytest.raises(InputError, match="have no response, others do"):
        check_all_alike(data, TrainerFn.FITTING, ["response"])


def test_what_cannot_be_sharded_is_refused(language_model, backbones):
    language_model.source["quantization"] = "torchao-int8"
    with pytest.raises(InputError, match="quantised weights cannot be sharded"):
        shard_blocks(language_model, SimpleNamespace())
    # One process writes the weights that an earlier stage tuned, so those are left whole too.
    tuned = LanguageModel.from_pretrained(str(backbones / "language_model"))
    tuned.tuned = frozenset(name for name, _ in tuned.named_parameters() if name.endswith("down_proj.weight"))
    with pytest.raises(InputError, match="no frozen block"):
        shard_blocks(tuned, SimpleNamespace())
    trained = LanguageModel.from_pretrained(str(backbones / "language_model"))
    trained.model.model.layers.requires_grad_(True)
    with pytest.raises(InputError, match="no frozen block"):
        shard_blocks(trained, SimpleNamespace())
