"""What docs/how-to/many-machines.md says: several processes, started by torchrun, as by srun, and as array jobs."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import lightning as L
import pytest
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from safetensors.torch import load_file
from torch import equal

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.shards import Shards
from tests.conftest import ROOT
from tests.tasks.test_run_log import place  # noqa: F401

TWO = ["fit", "--config", "run.yaml", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
GUIDE = ROOT / "docs/how-to/many-machines.md"


def started(words, **variables):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(*processes):
    for process in processes:
        said = process.communicate(timeout=600)
        assert process.returncode == 0, said[1][-3000:]


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_torchrun_trains_what_lightning_starts_by_itself(place):  # noqa: F811
    module = ["-m", "empathy_lightning", *TWO]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29731"]
    ended(started([*module, "--out", "own/weights"]), started([*torchrun, *module, "--out", "torchrun/weights"]))
    own, found = weights(place / "own/weights"), weights(place / "torchrun/weights")
    assert own.keys() == found.keys() and all(equal(value, found[key]) for key, value in own.items())


@pytest.fixture
def own_environment(monkeypatch):
    """Lightning writes the rank and the address of the first process where later runs would find them."""
    monkeypatch.setattr(rank_zero_only, "rank", getattr(rank_zero_only, "rank", 0))
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_trainer_takes_over_the_processes_of_the_guides_slurm_script(monkeypatch, own_environment):
    """What ``srun`` sets for process 11 of the guide's script, as Lightning reads it."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH --job-name=alignment.*?)```", GUIDE.read_text(), re.DOTALL)
    asked = {name: int(value) for name, value in re.findall(r"#SBATCH --(nodes|ntasks-per-node)=(\d+)", script)}
    told = {name: int(value) for name, value in re.findall(r"--trainer.(devices|num_nodes) (\d+)", script)}
    assert (asked["nodes"], asked["ntasks-per-node"]) == (told["num_nodes"], told["devices"])
    for name, value in {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "alignment", "SLURM_NTASKS": "16", "SLURM_NTASKS_PER_NODE": "8",
        "SLURM_NODELIST": "node[07-08]", "SLURM_NODEID": "1", "SLURM_PROCID": "11", "SLURM_LOCALID": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    trainer = L.Trainer(
        accelerator="cpu", devices=told["devices"], num_nodes=told["num_nodes"], strategy="ddp", logger=False
    )
    environment = trainer.strategy.cluster_environment
    assert isinstance(environment, SLURMEnvironment) and environment.main_address == "node07"
    assert (trainer.global_rank, trainer.local_rank, trainer.node_rank, trainer.world_size) == (11, 3, 1, 16)


def test_array_jobs_prepare_what_one_process_does(corpus, tmp_path):
    manifest = str(tmp_path / "spoken.jsonl")
    write_manifest(manifest, [replace(u, response_path=u.path) for u in read_manifest(corpus)])
    assert main(["prepare", "quantizer", manifest, "--out", str(tmp_path / "quantizer"), "--units", "12"]) == 0
    units = ["prepare", "units", manifest, "--quantizer", str(tmp_path / "quantizer"), "--per_shard", "5"]
    export = ["corpora", "export", "manifest", manifest, "--shards"]
    for words, name in ((units, "units.jsonl"), (export, "shards")):
        assert main([*words, "--out", str(tmp_path / "one" / name)]) == 0
        command = ["-m", "empathy_lightning", *words, "--out", str(tmp_path / "array" / name)]
        ended(*(started(command, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)))
    one, array = (read_manifest(tmp_path / kind / "units.jsonl") for kind in ("one", "array"))
    assert [(u.id, u.units) for u in one] == [(u.id, u.units) for u in array]
    assert len(Shards(str(tmp_path / "array/shards")).utterances()) == len(read_manifest(corpus))


def test_the_guide_names_options_that_there_are():
    text = GUIDE.read_text()
    assert "--nproc_per_node" in text and "SLURM_ARRAY_TASK_ID" in text
    for name in re.findall(r"recipe:([\w/.-]+)", text):
        assert (ROOT / "examples" / f"{name}.yaml").is_file()
