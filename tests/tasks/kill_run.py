"""Kill the demo and ``ablate`` at random moments, go on each time, and compare what is there in the end.

    python tests/tasks/kill_run.py [--kills 10] [--seed 0] [--out FOLDER]

The demo is the real one, its script and its recipes, with a corpus of a few dozen utterances; so are the list of
variants and the trainers that it starts. Takes half an hour of one core. Prints a line for each kill and whether the
files are the same, times apart, as those of a run that nobody stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("speech_adapter", "emotion_recognition", "emotion_nuance", "speech_decoder")
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip

STAGE = """
import sys
sys.path.insert(0, "examples")
import demo
place = len(demo.STEPS) - 4 + {0}
output, words = demo.STEPS[place]
step = demo.claim(output, words, [before for before, _ in demo.STEPS[:place]])
if not step.is_done():
    demo.train(step, words)
"""


def start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command in a group of its own."""
    with (folder / "output.txt").open("ab") as output:
        command = [sys.executable, *words]
        return subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output, start_new_session=True
        )


def whole(words: list[str], folder: Path) -> float:
    """Run a command to its end; its seconds."""
    begin = time.monotonic()
    if start(words, folder).wait() != 0:
        sys.exit(f"{words} failed:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return time.monotonic() - begin


def killed(words: list[str], folder: Path, moments: list[float], group: bool, outputs: list[Path]) -> int:
    """Kill a command at each moment, then let it run to its end; the number of kills.

    Args:
        words: The command, which goes on where it was stopped.
        folder: Where it runs.
        moments: Seconds after each start.
        group: Kill what it has started too; otherwise that lives on.
        outputs: What it writes; where it was done before a moment, it begins anew.
    """
    kills = 0
    for moment in moments:
        process = start(words, folder)
        try:
            if process.wait(timeout=moment) != 0:
                sys.exit(f"{words} failed:\n{(folder / 'output.txt').read_text()[-3000:]}")
            print("  done before the next kill: begins anew", flush=True)
            for output in outputs:
                shutil.rmtree(output)
        except subprocess.TimeoutExpired:
            if group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            kills += 1
            print(f"  killed after {moment:.1f} s", flush=True)
    whole(words, folder)
    return kills


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """Digests of the files that a run leaves behind, without the seconds that it took."""
    found = {}
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file()):
        content = path.read_bytes()
        if path.name == "training.json":
            facts = json.loads(content)
            del facts["seconds"]
            content = json.dumps(facts).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def prepared(folder: Path) -> list[float]:
    """A demo with a corpus of a few dozen utterances, trained by its own script; the seconds of each stage."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "examples" / "demo").glob("*.yaml"):
        text = path.read_text().replace("batch_seconds: 80", "batch_seconds: 20").replace(": 40", ": 10")
        text = text.replace("batch_size: 6", "batch_size: 2")
        path.write_text(text.replace("save_every: 50", "save_every: 1"))
    script = folder / "examples" / "demo.py"
    # Its words name the recipes of the library; these are copies.
    script.write_text(re.sub(r'"recipe:(demo/\w+)"', r'"examples/\1.yaml"', script.read_text()))
    corpus, package = "outputs/demo/corpus", ["-m", "empathy_lightning"]
    sizes = ["--train", "60", "--validation", "10", "--test", "10"]
    replies = ["--language_model", "small-world/language_model", "--out", f"{corpus}/labelled.jsonl"]
    units = ["--quantizer", "small-world/quantizer", "--out", f"{corpus}/units.jsonl"]
    spoken = f"{corpus}/spoken.jsonl"
    whole([*package, "demo", "corpus", "--out", corpus, *sizes], folder)
    whole([*package, "prepare", "responses", f"{corpus}/manifest.jsonl", *replies], folder)
    whole([*package, "prepare", "speech", f"{corpus}/labelled.jsonl", "--out", spoken], folder)
    whole([*package, "prepare", "units", spoken, *units], folder)
    return [whole(train(number), folder) for number in range(len(STAGES))]


def train(number: int) -> list[str]:
    """The words that train one stage by the demo's script."""
    return ["-c", STAGE.format(number)]


def moments(kills: int, seconds: float, draw: random.Random) -> list[float]:
    """Random moments after each start, such that a command is killed about as often before it is done."""
    imports = 0.4 * seconds
    return [imports + draw.uniform(0, 2 * (seconds - imports) / kills) for _ in range(kills)]


def compare(name: str, kills: int, expected: dict[str, str], found: dict[str, str]) -> bool:
    """Print whether the same files are there."""
    differ = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    print(f"{name}: {kills} kills, {len(expected)} files, {differ if differ else 'all the same'}", flush=True)
    return bool(expected) and not differ


def ablations(folder: Path) -> list[str]:
    """Two variants of the demo's recognition in a list; the words that run them."""
    entries = [
        {"name": "both", "config": "examples/demo/emotion_recognition.yaml", "overrides": {"trainer.max_epochs": 2}},
        {"name": "labels", "config": "examples/demo/emotion_recognition.yaml",
         "overrides": {"trainer.max_epochs": 2, "model.loss_weights.rating": 0.0}},
    ]  # fmt: skip
    (folder / "list.yaml").write_text(json.dumps(entries))
    return ["-m", "empathy_lightning", "ablate", "list.yaml", "--out"]


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    folder, draw, alike = options.out or Path(tempfile.mkdtemp()), random.Random(options.seed), True
    seconds = prepared(folder)
    place = folder / "outputs/demo"
    for number, stage in enumerate(STAGES):
        outputs = [place / stage, place / "logs" / stage]
        expected = digests(place, (f"{stage}/*",))
        for output in outputs:
            output.rename(output.with_name(f"{stage}.whole"))
        kills = killed(train(number), folder, moments(options.kills, seconds[number], draw), True, outputs)
        alike &= compare(stage, kills, expected, digests(place, (f"{stage}/*",)))
        for output in outputs:
            # The stages after this one know what they were made from, the seconds that it took included.
            shutil.rmtree(output)
            output.with_name(f"{stage}.whole").rename(output)
    words = ablations(folder)
    taken = whole([*words, "whole"], folder)
    # The trainers outlive the command, which waits for them when it is started again.
    for group in (True, False):
        name = f"killed_{group}"
        kills = killed([*words, name], folder, moments(options.kills, taken, draw), group, [folder / name])
        patterns = ("ablations.*", "*/metrics.json", "*/weights/*")
        alike &= compare(name, kills, digests(folder / "whole", patterns), digests(folder / name, patterns))
    sys.exit(0 if alike else "files differ")


if __name__ == "__main__":
    main()
