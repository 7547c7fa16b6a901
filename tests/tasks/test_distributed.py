"""Two real processes train together: each utterance goes to one of them, and both end with the same weights."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import torch

from empathy_lightning.data import read_manifest, write_manifest

SCRIPT = """
import sys
from functools import partial
import lightning as L
import torch
from empathy_lightning.data import Manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.losses import CategoricalLoss
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.tasks import EmotionNuanceTask

corpus, folder = sys.argv[1:]
heard = {"train": [], "validation": []}


class Listen(L.Callback):
    def on_train_batch_start(self, trainer, task, batch, index):
        heard["train"].append((trainer.current_epoch, batch.ids))

    def on_validation_batch_start(self, trainer, task, batch, index, loader=0):
        if not trainer.sanity_checking:
            heard["validation"].append((trainer.current_epoch, batch.ids))


if __name__ == "__main__":
    torch.set_num_threads(1)
    L.seed_everything(0)
    encoder = ConvolutionalEncoder(16, (4, 4), dropout=0.0)
    nuance = EmotionNuance(16, 8, hidden_size=8, gate_size=4, num_heads=2)
    model = EmpatheticLM(Listener(encoder, emotion_nuance=nuance))
    task = EmotionNuanceTask(model, {"categorical": CategoricalLoss()}, optimizer=partial(torch.optim.AdamW, lr=1e-2))
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, callbacks=[Listen()],
    )
    trainer.fit(task, datamodule=EmpathyDataModule([Manifest(corpus)], batch_seconds=3, pool_batches=2))
    weights = {name: value for name, value in model.named_parameters()}
    torch.save({"heard": heard, "weights": weights}, f"{folder}/rank{trainer.global_rank}.pt")
    trainer.test(task, datamodule=EmpathyDataModule([Manifest(corpus)], batch_seconds=1), verbose=False)
    torch.distributed.destroy_process_group()
"""


def test_two_processes_share_the_utterances_and_end_with_the_same_weights(corpus, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    spoken = [replace(u, language=("en", "fr")[row % 2]) for row, u in enumerate(read_manifest(corpus))]
    write_manifest(tmp_path / "m.jsonl", spoken)
    words = [sys.executable, str(script), str(tmp_path / "m.jsonl"), str(tmp_path)]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    for epoch in (0, 1):
        batches = [[ids for when, ids in rank["heard"]["train"] if when == epoch] for rank in (first, second)]
        assert len(batches[0]) == len(batches[1])
        counts = Counter(name for rank in batches for ids in rank for name in ids)
        # Both take the same number of steps, so at most one batch comes twice.
        twice = {name for name, count in counts.items() if count == 2}
        assert set(counts) == {str(index) for index in range(20)} and max(counts.values()) <= 2
        assert not twice or any(twice == set(ids) for rank in batches for ids in rank)
    orders = [[ids for when, ids in first["heard"]["train"] if when == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    validated = {name for rank in (first, second) for _, ids in rank["heard"]["validation"] for name in ids}
    assert validated == {str(index) for index in range(20, 25)}
    # Rows of the test split, whichever process heard them, said once.
    said = [line.split()[:3] for line in done.stdout.splitlines() if line.startswith(("all ", "language "))]
    assert [row[:2] for row in said] == [["all", "5"], ["language", "en"], ["language", "fr"]]
    assert [row[2] for row in said[1:]] == ["2", "3"]
