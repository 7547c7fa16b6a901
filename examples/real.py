"""The real recipe: Whisper base and SmolLM2 learn to talk to each other, from texts to figures.

    python examples/real.py            # the models from the Hub
    EMPATHY_BACKBONES=FOLDER python examples/real.py

FOLDER holds whisper-base and smollm2-135m-instruct. Each step is a command of ``empathy-lightning`` that you could type
yourself; it is printed before it runs and skipped if its output is there, and its time is kept. A step that was stopped
goes on. Everything lies in outputs/real; ``make real`` runs this after setting up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest, write_manifest

OUT = "outputs/real"
REPEAT = "Repeat this word for word: {speech}"
TIMES = Path(OUT) / "times.json"
SHORT = ["--max_new_tokens", "40"]

Step = tuple[str, list[str]]
"""What a step writes, and its command."""


def models() -> tuple[str, str]:
    """Speech encoder and language model: folders, or the Hub's ids."""
    if folder := os.environ.get("EMPATHY_BACKBONES"):
        return str(Path(folder) / "whisper-base"), str(Path(folder) / "smollm2-135m-instruct")
    return "openai/whisper-base", "HuggingFaceTB/SmolLM2-135M-Instruct"


def preparation(language_model: str, tones: str, filled: int = 4500) -> list[Step]:
    """Texts of users, their speech, and the frozen model's replies to the texts."""
    asking = ["prepare", "instructions", "recipe:real/instructions", "--language_model", language_model]
    style = ["--system", "You write short questions.", "--temperature", "0.7", "--max_new_tokens", "44"]
    saying = ["--users", "--tones", tones]
    answering = ["--without_emotion", "--language_model", language_model, *SHORT]
    return [
        _step("texts.jsonl", [*asking, "--asked", "0", "--filled", str(filled)]),
        _step("questions.jsonl", [*asking, "--asked", "192", "--held_out", "0.15", *style]),
        _step("templates.jsonl", ["prepare", "speech", f"{OUT}/texts.jsonl", *saying]),
        _step("written.jsonl", ["prepare", "speech", f"{OUT}/questions.jsonl", *saying]),
        _step("answered.jsonl", ["prepare", "responses", f"{OUT}/written.jsonl", *answering]),
    ]


def training(encoder: str, language_model: str) -> list[Step]:
    """The two stages; one that was stopped goes on from its last checkpoint."""
    backbones = ["--backbones.speech_encoder", encoder, "--backbones.language_model", language_model]
    stages = ("1_words", "2_replies")
    return [
        (f"{OUT}/{stage}/training.json", ["fit", "--ckpt_path", "last", "--config", f"recipe:real/{stage}", *backbones])
        for stage in stages
    ]


def measurement(encoder: str, language_model: str) -> list[Step]:
    """Replies to the test split's speech, what is repeated, a cascade beside them, and the figures."""
    answering = ["respond", f"{OUT}/answered.jsonl", "--checkpoint", f"{OUT}/2_replies", *SHORT]
    cascading = ["--without_emotion", "--language_model", language_model, *SHORT]
    compared = ["--replies", f"{OUT}/replies.jsonl", "--repeated", f"{OUT}/repeated.jsonl"]
    compared += ["--heard", f"{OUT}/heard.jsonl", "--cascade", f"{OUT}/cascade.jsonl"]
    return [
        _step("replies.jsonl", answering),
        _step("repeated.jsonl", [*answering, "--prompt", REPEAT]),
        _step("heard.jsonl", ["prepare", "transcripts", f"{OUT}/wordless.jsonl", "--asr", encoder]),
        _step("cascade.jsonl", ["prepare", "responses", f"{OUT}/heard.jsonl", *cascading]),
        _step("figures.json", ["evaluate", "understanding", f"{OUT}/answered.jsonl", *compared]),
    ]


def _step(name: str, words: list[str]) -> Step:
    return f"{OUT}/{name}", [*words, "--out", f"{OUT}/{name}"]


def run(steps: Sequence[Step], more: dict[str, list[str]] | None = None) -> None:
    """Run the steps whose output is not there, and keep how long each took.

    Args:
        steps: In their order.
        more: Further options by a command's first word, or its first two.
    """
    for output, words in steps:
        if Path(output).exists():
            print(f"{output} is there")
            continue
        words = [*words, *(more or {}).get(words[0], []), *(more or {}).get(" ".join(words[:2]), [])]
        print(f"\n$ empathy-lightning {' '.join(words)}", flush=True)
        begin = time.time()
        if code := main(words):
            sys.exit(code)
        _keep_time(output, time.time() - begin)


def _keep_time(output: str, seconds: float) -> None:
    times = json.loads(TIMES.read_text()) if TIMES.is_file() else {}
    times[output] = round(seconds)
    TIMES.write_text(json.dumps(times, indent=2) + "\n")


def forget_words() -> None:
    """The test split without its transcripts, for a recogniser to write down."""
    rows = [u for u in read_manifest(f"{OUT}/written.jsonl") if u.split == "test"]
    write_manifest(f"{OUT}/wordless.jsonl", [replace(u, transcript=None) for u in rows])


def real(tones: str = "recipe:real/users", more: dict[str, list[str]] | None = None, filled: int = 4500) -> None:
    """Everything, from nothing to the figures.

    Args:
        tones: YAML of the users' voices.
        more: Further options by a command's first word, or its first two.
        filled: Templates to fill.
    """
    encoder, language_model = models()
    Path(OUT).mkdir(parents=True, exist_ok=True)
    run([*preparation(language_model, tones, filled), *training(encoder, language_model)], more)
    forget_words()
    run(measurement(encoder, language_model), more)
    for output, seconds in json.loads(TIMES.read_text()).items():
        print(f"{output:<44}{seconds:>7} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        real(sys.argv[1])
    else:
        real()
