"""The memory of training steps, counted while `fit` runs, beside what `empathy-lightning memory` says by arithmetic.

    EMPATHY_BACKBONES=FOLDER python benchmarks/memory.py

Whisper base and SmolLM2-135M-Instruct in the stages of FreezeEmpath's recipes, on the CPU. Every tensor counts
from the operation that makes it until it is freed, so that the figures are the same in every run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.commands.memory_report import rows_of, training_of
from empathy_lightning.data import write_manifest
from empathy_lightning.utterance import EMOTIONS, Utterance

STAGES = {
    1: "1_semantic_alignment",
    2: "2b_empathetic_instruction_tuning",
    3: "3b_query_to_response",
}
REPLY = " ".join(["word"] * 40)
UNITS = 200
BODY = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_key_value_heads": 2, "intermediate_size": 1024}
MIB = 2**20


def corpus(folder: Path, seconds: float, count: int) -> Path:
    """Noise of one length with replies of one length, so that every batch is the largest."""
    noise = np.random.default_rng(0)
    utterances = []
    for index in range(count):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * noise.standard_normal(round(seconds * 16_000)), 16_000)
        known = {"transcript": REPLY, "response": REPLY, "units": noise.integers(0, 512, UNITS).tolist()}
        split = "validation" if index == 0 else "train"
        emotion = EMOTIONS[index % len(EMOTIONS)]
        utterances.append(Utterance(str(index), "noise", str(path), split=split, emotion=emotion, **known))
    write_manifest(folder / "noise.jsonl", utterances)
    return folder / "noise.jsonl"


def overlay(folder: Path, stage: int, manifest: Path, options: argparse.Namespace, models: Path) -> dict[str, Any]:
    """What a run here has other than the recipe."""
    language_model = {"dtype": options.dtype, "gradient_checkpointing": options.checkpointing}
    model: dict[str, Any] = {"responder": {"language_model": {"init_args": language_model}}}
    arguments: dict[str, Any] = {"model": model}
    if stage > 1:
        arguments["initial_weights"] = [str(folder / "1")]
    if stage == 3:
        model["listener"] = {"emotion_nuance": None}
        model["talker"] = {"speech_decoder": {"init_args": {"num_units": 512, "body": BODY}}}
    data: dict[str, Any] = {
        "corpora": [{"class_path": "Manifest", "init_args": {"path": str(manifest)}}],
        "batch_size": options.utterances,
        "batch_seconds": options.utterances * options.seconds,
        "num_workers": 0,
    }
    if stage == 2:
        data["mixed_in"] = []
    trainer = {
        "accelerator": "cpu", "devices": 1, "strategy": "auto", "max_epochs": 1, "accumulate_grad_batches": 1,
        "limit_val_batches": 0, "precision": options.precision, "num_sanity_val_steps": 0,
        "callbacks": [{"class_path": "live_bytes.CountedSteps", "init_args": {"path": str(folder / "counted.json")}}],
    }  # fmt: skip
    backbones = {
        "speech_encoder": str(models / "whisper-base"),
        "language_model": str(models / "smollm2-135m-instruct"),
        "end_token_id": 0,
    }
    out = {"out": str(folder / str(stage)), "monitor": None}
    return {**out, "backbones": backbones, "data": data, "trainer": trainer, "model": {"init_args": arguments}}


def predicted(words: list[str], options: argparse.Namespace) -> dict[str, int]:
    """What the arithmetic says of the same configuration."""
    return rows_of(training_of(words, options.seconds, 41, UNITS + 1).memory)


def one(stage: int, options: argparse.Namespace, folder: Path, models: Path) -> dict[str, Any]:
    """A stage counted and computed."""
    manifest = folder / "noise.jsonl"
    if not manifest.is_file():
        corpus(folder, options.seconds, 3 * options.utterances + 1)
    file = folder / f"{stage}.yaml"
    file.write_text(yaml.safe_dump(overlay(folder, stage, manifest, options, models)))
    words = ["--config", f"recipe:freezeempath/{STAGES[stage]}", "--config", str(file)]
    with redirect_stdout(sys.stderr):
        code = main(["fit", *words, "--again"])
    if code != 0:
        raise SystemExit(code)
    measured = json.loads((folder / "counted.json").read_text())
    computed = predicted(words, options)
    beside = {name: figures["peak"] - figures["weights"] for name, figures in (("c", computed), ("m", measured))}
    return {
        "stage": stage,
        "precision": options.precision,
        "dtype": options.dtype,
        "checkpointing": options.checkpointing,
        "measured_peak": round(measured["peak"] / MIB, 1),
        "computed": {name: round(size / MIB, 1) for name, size in computed.items()},
        "computed_over_measured": round(computed["peak"] / measured["peak"], 3),
        "without_weights": round(beside["c"] / beside["m"], 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--dtypes", choices=["float32", "bfloat16"], nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--folder", type=Path, help="where the stages' weights stay (default: nowhere)")
    chosen = parser.parse_args()
    backbones = Path(os.environ["EMPATHY_BACKBONES"])
    with TemporaryDirectory() as temporary:
        for number in chosen.stages:
            for dtype in chosen.dtypes:
                for checkpointing in (False, True) if number < 3 else (False,):
                    precision = "32-true" if dtype == "float32" else "bf16-mixed"
                    case = {"dtype": dtype, "checkpointing": checkpointing, "precision": precision}
                    options = argparse.Namespace(**vars(chosen), **case)
                    print(json.dumps(one(number, options, chosen.folder or Path(temporary), backbones)), flush=True)
