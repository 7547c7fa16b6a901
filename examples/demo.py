"""The demo: train the three modules in the small synthetic world, then talk to the bot.

    python examples/demo.py

Each step is a command of ``empathy-lightning`` that you could type yourself; it is
printed before it runs and skipped if its output is there. A training that was stopped
goes on from its last checkpoint. Everything lies in outputs/demo; ``make demo`` runs
this after setting up.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from empathy_lightning.__main__ import main

OUT = "outputs/demo"
CORPUS = f"{OUT}/corpus"
RESPONSES = ["prepare", "responses", f"{CORPUS}/manifest.jsonl", "--language-model", "small-world/language_model"]
UNITS = ["prepare", "units", f"{CORPUS}/labelled.jsonl", "--vocoder", f"{OUT}/vocoder", "--train", "1500"]

STEPS: list[tuple[str, list[str]]] = [
    (f"{CORPUS}/manifest.jsonl", ["prepare", "synthetic", "--out", CORPUS]),
    (f"{CORPUS}/labelled.jsonl", [*RESPONSES, "--out", f"{CORPUS}/labelled.jsonl"]),
    (f"{CORPUS}/units.jsonl", [*UNITS, "--out", f"{CORPUS}/units.jsonl"]),
    (f"{OUT}/speech_adapter/training.json", ["fit", "--config", "examples/demo/speech_adapter.yaml"]),
    (f"{OUT}/emotion_recognition/training.json", ["fit", "--config", "examples/demo/emotion_recognition.yaml"]),
    (f"{OUT}/emotion_nuance/training.json", ["fit", "--config", "examples/demo/emotion_nuance.yaml"]),
    (f"{OUT}/speech_decoder/training.json", ["fit", "--config", "examples/demo/speech_decoder.yaml"]),
]
EVALUATE = [
    *("evaluate", "--checkpoint", f"{OUT}/speech_decoder", "--manifest", f"{CORPUS}/units.jsonl", "--out", OUT),
    *(
        "--stages",
        f"{OUT}/speech_adapter",
        f"{OUT}/emotion_recognition",
        f"{OUT}/emotion_nuance",
        f"{OUT}/speech_decoder",
    ),
]


def run(words: list[str]) -> None:
    """Print a command, run it, and stop the demo if it fails."""
    print(f"\n$ empathy-lightning {' '.join(words)}", flush=True)
    begin = time.time()
    code = main(words)
    if code:
        sys.exit(code)
    print(f"({time.time() - begin:.0f} s)", flush=True)


def prepare(step: tuple[str, list[str]]) -> None:
    """Run a step unless its output is there; a training that was stopped goes on from its last checkpoint."""
    output, words = step
    last = Path(OUT) / "logs" / Path(output).parent.name / "last.ckpt"
    if Path(output).exists():
        print(f"{output} is there already")
    else:
        run([*words, "--ckpt_path", str(last)] if last.exists() else words)
    # From here on the stage is done: one that is asked for anew begins from the start.
    last.unlink(missing_ok=True)


def show(path: str) -> None:
    """Print the figures of an earlier evaluation."""
    from empathy_lightning.evaluation.evaluate import summary

    for name, value in summary(json.loads(Path(path).read_text())):
        print(f"{name:<46}{value:>8.3f}")


if __name__ == "__main__":
    start = time.time()
    for step in STEPS:
        prepare(step)
    if Path(f"{OUT}/report.html").exists() and Path(f"{OUT}/metrics.json").exists():
        show(f"{OUT}/metrics.json")
    else:
        run(EVALUATE)
    print(f"\nThe demo took {(time.time() - start) / 60:.1f} minutes. Now try your own voice:")
    print("  empathy-lightning chat YOUR.wav --out outputs/chat")
