"""What each process holds of the frozen language model: copies under DDP, shards, on the CPU.

    python benchmarks/sharding.py --processes 2

Stage 1 with random weights in the shape of Qwen2.5-0.5B (bfloat16), noise for speech. One JSON object: per strategy,
for the first process in MB, the language model's weights, resident memory (without the pages of files) where training
begins and after the backward pass, and the peak from then on. The run fails if the losses of the
two ways differ by more than a thousandth.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import soundfile
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from empathy_lightning.data import Manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.listener import Listener
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.pretrained import locate
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.responder import Responder
from empathy_lightning.tasks import ShardedBackboneStrategy, SpeechAdapterTask
from empathy_lightning.tasks.sharding import weight_bytes
from empathy_lightning.utterance import Utterance


class Memory(L.Callback):
    """Losses, and the process's memory in MB where training begins and after backward passes."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.begin = self.after = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Here all weights are in their places; the peak is counted from here on."""
        self.begin = own_memory()
        Path("/proc/self/clear_refs").write_text("5")

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Here the gathered blocks have been let go."""
        self.after = max(self.after, own_memory())

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any) -> None:
        """The loss of this process's batch."""
        self.losses.append(float(outputs["loss"]))


def status(field: str) -> float:
    """A line of the process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def own_memory() -> float:
    """Resident MB without the pages of files."""
    return status("RssAnon")


def prepare(folder: Path) -> None:
    """A random language model with a small tokenizer, and twelve utterances of noise."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    Qwen2ForCausalLM(config).bfloat16().save_pretrained(folder / "language_model")
    AutoTokenizer.from_pretrained(locate("small-world/language_model")).save_pretrained(folder / "language_model")
    utterances = []
    for index in range(12):
        path = folder / f"{index}.wav"
        soundfile.write(path, np.random.default_rng(index).normal(0, 0.1, 40_000), 16_000)
        split = "train" if index < 8 else "validation"
        utterances.append(
            Utterance(id=str(index), corpus="noise", path=str(path), split=split, response="i am sorry to hear that")
        )
    write_manifest(folder / "manifest.jsonl", utterances)


def run(way: str, processes: int, folder: Path) -> None:
    """One process: train, and write what it held."""
    L.seed_everything(0)
    torch.set_num_threads(1)
    language_model = LanguageModel.from_pretrained(str(folder / "language_model"), dtype="bfloat16")
    loaded = {"loaded_own_mb": own_memory(), "loaded_file_mb": status("RssFile")}
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
    task = SpeechAdapterTask(EmpatheticLM(Listener(encoder, SpeechAdapter(192, 896)), Responder(language_model)))
    memory = Memory()
    trainer = L.Trainer(
        max_steps=8 // (2 * processes), accelerator="cpu", devices=processes, precision="bf16-mixed", logger=False,
        strategy="ddp" if way == "copies" else ShardedBackboneStrategy(), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, limit_val_batches=0,
        callbacks=[memory],
    )  # fmt: skip
    trainer.fit(task, datamodule=EmpathyDataModule([Manifest(str(folder / "manifest.jsonl"))], batch_size=2))
    held, total = weight_bytes(language_model)
    figures = {"weights_mb": held / 2**20, "of_mb": total / 2**20, **loaded}
    peak = status("VmHWM") - status("RssFile")
    figures |= {"training_own_mb": memory.begin, "after_backward_own_mb": memory.after, "peak_own_mb": peak}
    rounded = {name: round(value) for name, value in figures.items()}
    (folder / f"{way}{trainer.global_rank}.json").write_text(json.dumps({**rounded, "losses": memory.losses}))


def launch(way: str, processes: int, folder: Path) -> list[dict[str, Any]]:
    """All processes of a way to the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, __file__, "--processes", str(processes), "--way", way, "--folder", str(folder)]
    # The C library would keep the gathered blocks' pages for later; a GPU's allocator has its own ways.
    environment = {**os.environ, "MASTER_PORT": port, "MALLOC_MMAP_THRESHOLD_": "262144"}
    running = [subprocess.Popen(command, env={**environment, "LOCAL_RANK": str(rank)}) for rank in range(processes)]
    if any([process.wait() for process in running]):
        raise SystemExit(f"a process failed under {way}")
    return [json.loads((folder / f"{way}{rank}.json").read_text()) for rank in range(processes)]


def main() -> None:
    """Both ways, the losses compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--way", choices=("copies", "shards"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run(options.way, options.processes, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        figures = {way: launch(way, options.processes, Path(name)) for way in ("copies", "shards")}
    losses = {way: [process.pop("losses") for process in processes] for way, processes in figures.items()}
    # In bfloat16, and the copies compute the shared prefix apart.
    if not np.allclose(losses["copies"], losses["shards"], rtol=1e-3):
        raise SystemExit(f"the losses differ: {losses}")
    print(json.dumps({way: processes[0] for way, processes in figures.items()} | {"losses": losses["shards"]}))


if __name__ == "__main__":
    main()
