"""Training beside busy neighbours: how long OpenMP's threads spin while they wait, measured.

    python benchmarks/shared_machine.py              # about six minutes; the machine should be quiet but for this
    python benchmarks/shared_machine.py --seconds 5 --rounds 1

Two threads share each operation of a small model on two cores. The one that is ready first spins until the other
is; beside a busy process per core the other may not even be running, so that whole time slices are spun away. Each
row is one setting, in processes of its own: optimiser steps a second on the quiet machine and beside one busy process
per core, taken in turns, medians of the rounds. The last line is the verdict on what the command line sets
(:mod:`empathy_lightning.threads`): at most 5 % slower than torch's default on a quiet machine, and at least 0.4 of
that quiet speed beside the neighbours. Exit code 1 if it misses one of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from empathy_lightning.threads import WAITING

CORES = len(os.sched_getaffinity(0))
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
OURS = "the command line's"
SETTINGS: dict[str, dict[str, str]] = {
    "torch's default": {},
    "passive waiting": {"OMP_WAIT_POLICY": "passive"},
    "no spinning": {"GOMP_SPINCOUNT": "0"},
    "spin of 1,000": {"GOMP_SPINCOUNT": "1000"},
    "spin of 10,000": {"GOMP_SPINCOUNT": "10000"},
    "spin of 100,000": {"GOMP_SPINCOUNT": "100000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    OURS: WAITING,
}
BUSY = "while True: sum(range(10_000))"


def train(seconds: float) -> float:
    """Optimiser steps a second of a small transformer in this process."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(192, 4, 768, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rows = torch.randn(16, 160, 192)
    steps, begin = -2, 0.0
    while steps < 1 or time.perf_counter() - begin < seconds:
        if steps == 0:  # the first two only warm up
            begin = time.perf_counter()
        model(rows).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return steps / (time.perf_counter() - begin)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Busy processes beside this one."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def speed(setting: dict[str, str], seconds: float, busy: int) -> float:
    """Steps a second under a setting, in a fresh process, for OpenMP reads its settings once."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | setting
    command = [sys.executable, __file__, "--train", str(seconds)]
    with neighbours(busy):
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> int:
    """Measure all settings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of training per measurement (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting (default %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="settings")
    parser.add_argument("--train", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        print(train(options.train))
        return 0
    chosen = dict.fromkeys(["torch's default", *options.only, OURS])
    quiet: dict[str, list[float]] = {name: [] for name in chosen}
    beside: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name in chosen:
            quiet[name].append(speed(SETTINGS[name], options.seconds, 0))
            beside[name].append(speed(SETTINGS[name], options.seconds, CORES))
    best = statistics.median(quiet["torch's default"])
    print(
        f"{CORES} cores, {options.rounds} rounds of {options.seconds:g} s: steps a second, and as a share of {best:.2f}"
    )
    for name in chosen:
        alone, busy = statistics.median(quiet[name]), statistics.median(beside[name])
        print(f"{name:<20}quiet {alone:6.2f} ({alone / best:4.2f})   beside {CORES} {busy:6.2f} ({busy / best:4.2f})")
    costs = 1 - statistics.median(quiet[OURS]) / best
    leaves = statistics.median(beside[OURS]) / best
    met = costs <= 0.05 and leaves >= 0.4
    print(f"{'met' if met else 'MISSED'}: costs {costs:.1%} (at most 5 %), leaves {leaves:.2f} (at least 0.4)")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
