"""The demo: train the three modules in the small synthetic world, then talk to the bot.

    empathy-lightning demo run

Each step is a command of ``empathy-lightning`` that you could type yourself; it is
printed before it runs and skipped if its output is there and was made from what the steps before it
and its configuration hold now. What was made from something else is refused, or made anew with ``--again``.
A training that was stopped goes on from its last checkpoint. Everything lies in outputs/demo; ``make demo`` runs
this after setting up.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

from empathy_lightning.__main__ import main
from empathy_lightning.configurations import config_files
from empathy_lightning.digests import digest
from empathy_lightning.jobs import Claim

OUT = "outputs/demo"
CORPUS = f"{OUT}/corpus"
RESPONSES = ["prepare", "responses", f"{CORPUS}/manifest.jsonl", "--language_model", "small-world/language_model"]
SPEECH = ["prepare", "speech", f"{CORPUS}/labelled.jsonl", "--train", "1500"]
UNITS = ["prepare", "units", f"{CORPUS}/spoken.jsonl", "--quantizer", "small-world/quantizer"]
# A stage that was stopped goes on from its last checkpoint.
FIT = ["fit", "--ckpt_path", "last", "--config"]

STEPS: list[tuple[str, list[str]]] = [
    (f"{CORPUS}/manifest.jsonl", ["demo", "corpus", "--out", CORPUS]),
    (f"{CORPUS}/labelled.jsonl", [*RESPONSES, "--out", f"{CORPUS}/labelled.jsonl"]),
    (f"{CORPUS}/spoken.jsonl", [*SPEECH, "--out", f"{CORPUS}/spoken.jsonl"]),
    (f"{CORPUS}/units.jsonl", [*UNITS, "--out", f"{CORPUS}/units.jsonl"]),
    (f"{OUT}/speech_adapter/training.json", [*FIT, "recipe:demo/speech_adapter"]),
    (f"{OUT}/emotion_recognition/training.json", [*FIT, "recipe:demo/emotion_recognition"]),
    (f"{OUT}/emotion_nuance/training.json", [*FIT, "recipe:demo/emotion_nuance"]),
    (f"{OUT}/speech_decoder/training.json", [*FIT, "recipe:demo/speech_decoder"]),
]
QUICK_PLACE = "outputs/demo_quick"
QUICK = {
    "demo": ["--train", "60", "--validation", "10", "--test", "5"],
    "prepare": [],
    "fit": ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2"],
}
"""What makes each kind of step short, so that it shows whether everything runs; the figures mean nothing then."""

EVALUATE = [
    *("demo", "evaluate", "--checkpoint", f"{OUT}/speech_decoder", "--manifest", f"{CORPUS}/units.jsonl", "--out", OUT),
    *(
        "--stages",
        f"{OUT}/speech_adapter",
        f"{OUT}/emotion_recognition",
        f"{OUT}/emotion_nuance",
        f"{OUT}/speech_decoder",
    ),
]


def claim(output: str, words: list[str], before: list[str]) -> Claim:
    """What a step's output is made from: its words, its configuration, and the outputs of the steps before it."""
    files = {file.name: file for file in config_files(words)} | {name: Path(name) for name in before}
    digests = {name: digest(file) for name, file in files.items()}
    return Claim(Path(output), {"words": words, **digests})


def run(words: list[str], apart: bool = False) -> None:
    """Print a command, run it, here or in a process of its own, and stop the demo if it fails."""
    print(f"\n$ empathy-lightning {' '.join(words)}", flush=True)
    begin = time.time()
    code = subprocess.call([sys.executable, "-m", "empathy_lightning", *words]) if apart else main(words)
    if code:
        sys.exit(code)
    print(f"({time.time() - begin:.0f} s)", flush=True)


def show(path: str) -> None:
    """Print the figures of an earlier evaluation."""
    from empathy_lightning.small_world.evaluation import summary

    for name, value in summary(json.loads(Path(path).read_text())):
        print(f"{name:<64}{value:>8.3f}")


def train(step: Claim, words: list[str]) -> None:
    """Train a stage; one that was stopped goes on from its last checkpoint, if it was made from the same."""
    if not step.is_begun():
        # The checkpoints of another job go first, so that a stop in between leaves none to go on from.
        shutil.rmtree(f"{OUT}/logs/{step.out.parent.name}", ignore_errors=True)
    step.write()
    run(words)


def demo(again: bool = False, quick: bool = False) -> None:
    """Run what is not done yet, or everything again.

    Args:
        again: Make anew what is there, whatever it was made from.
        quick: A few utterances and steps only, in a folder of its own.
    """
    if quick:
        Path(QUICK_PLACE).mkdir(parents=True, exist_ok=True)
        with chdir(QUICK_PLACE):
            steps(again, quick)
        print(
            f"Everything runs; the figures mean nothing. All paths above are below {QUICK_PLACE}, so the report is\n"
            f"{QUICK_PLACE}/{OUT}/report.html. The whole: empathy-lightning demo run"
        )
    else:
        print("Four steps of data, four of training, then the figures: ten to 25 minutes on two cores.")
        steps(again, quick)
        question = f"{CORPUS}/audio/test_00001.flac"
        print(
            "Now talk to it (real voices too, but it has met its small synthetic world alone):\n"
            f"  empathy-lightning chat {question} --checkpoint {OUT}/speech_decoder --out outputs/chat\n"
            f"  empathy-lightning serve {OUT}/speech_decoder"
        )


def steps(again: bool, quick: bool) -> None:
    """The demo's steps, in the folder where this runs."""
    start = time.time()
    before: list[str] = []
    if again:
        made = [output for output, words in STEPS if words[0] == "fit"]
        for output in (*made, f"{OUT}/report.html"):
            # All at once, so that an interruption leaves nothing of before.
            Claim(Path(output), {}).is_met(again=True)
    for output, step_words in STEPS:
        words = step_words + QUICK[step_words[0]] if quick else step_words
        if words[0] != "fit":
            # These know by themselves what they were made from, and eSpeak says the same only in a process of its own.
            run([*words, "--again"] if again else words, apart=True)
        elif not (step := claim(output, words, before)).is_done():
            train(step, words)
        before.append(output)
    report = claim(f"{OUT}/report.html", EVALUATE, before)
    if report.is_done():
        show(f"{OUT}/metrics.json")
    else:
        report.write()
        run(EVALUATE)
    print(f"\nThe demo took {(time.time() - start) / 60:.1f} minutes.")
