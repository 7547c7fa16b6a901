"""One optimiser step around frozen backbones: the reference's way beside ours, each in a process of its own.

    python benchmarks/training_step.py compare               # time, memory and losses of the stages
    python benchmarks/training_step.py breakdown             # ours with each measure switched off alone
    python benchmarks/training_step.py profile --stage 1     # where the time of our step goes, by part
    EMPATHY_BACKBONES=FOLDER python benchmarks/training_step.py compare --sizes real

Each prints one JSON object. ``--sizes real`` is Whisper base and SmolLM2-135M-Instruct, from that folder or with
random weights of the same sizes; otherwise the weights are random and small. The speech is noise of 1 to 12 s,
everything is float32 on one thread, and time is CPU time. The reference's training code was never published; its way
is written in ``step_ways.py`` from what its inference code does: every utterance padded to 30 s and 300 embeddings,
all layers stacked, logits of all positions, random batches. Where the code leaves it open the cheaper choice is
taken: encoder without gradient, layers only in stage 2, and the loss of the transformers library, which makes fewer
copies than the pinned old one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from step_cost import counted, peak_of_products, shares
from step_models import batches, build, from_disk
from step_ways import MEASURES, ours, reference, switch_off
from torch import Tensor

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.kept_speech import keep_encoded
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.language_model import checkpoint_blocks
from empathy_lightning.tasks.one_pass import in_one_pass

Loss = Callable[[EmpatheticLM, SpeechBatch], Tensor]
WAYS = ("reference", "ours", "padded", "kept", "checkpointed", *(f"without_{name}" for name in MEASURES))


def resident() -> float:
    """Megabytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def prepared(options: argparse.Namespace) -> tuple[EmpatheticLM, list[SpeechBatch], Loss]:
    """The model, the batches and the loss of a way."""
    padded = options.way in ("reference", "padded", "without_own_length")
    model = build(options.stage, options.vocabulary, padded, options.sizes)
    if options.way.startswith("without_"):
        switch_off(model, options.way.removeprefix("without_"))
    assert model.responder is not None
    if model.talker is not None:
        model.talker.speech_decoder.released_rules = padded
    if options.way == "checkpointed":
        checkpoint_blocks(model.responder.language_model.model)
    buckets = options.way not in ("reference", "padded", "without_buckets")
    tokenizer = model.responder.language_model.tokenizer
    work = batches(options.batches, options.batch_size, buckets, tokenizer)
    if options.way == "kept":
        heard_before(model, work)
    return model, work, reference if options.way == "reference" else ours


def heard_before(model: EmpatheticLM, work: list[SpeechBatch]) -> None:
    """Let a model find what its encoder made of the batches, as in any epoch but the first."""
    with TemporaryDirectory() as folder, torch.no_grad():
        keep_encoded(model.listener, folder)
        for batch in work:
            model.listener.speech_encoder(batch.waveform, batch.lengths)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Take the steps in this process and say what they cost."""
    torch.set_num_threads(1)
    model, work, loss_of = prepared(options)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    if options.way != "reference":
        in_one_pass(optimizer)
    before = resident()
    losses, cpu, wall, peaks = [], [], [], []
    for batch in work:
        peaks.append(peak_of_products())
        started = time.process_time(), time.perf_counter()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
        losses.append(loss.item())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {
        "way": options.way,
        "utterances_per_cpu_second": round(options.batch_size * len(work) / sum(cpu), 3),
        "utterances_per_wall_second": round(options.batch_size * len(work) / sum(wall), 3),
        "peak_megabytes": round(peak),
        "peak_megabytes_less_model_and_imports": round(peak - before),
        "peak_gflop_per_second": round(median(peaks) / 1e9, 1),
        "losses": [round(value, 6) for value in losses],
    }


def gflop_of(options: argparse.Namespace) -> float:
    """GFLOP of an utterance in a way, counted in steps that nobody times."""
    torch.set_num_threads(1)
    model, work, loss_of = prepared(options)
    flop = sum(counted(lambda batch=batch: loss_of(model, batch).backward()) for batch in work)
    return flop / 1e9 / options.batch_size / len(work)


def apart(function: Callable[[argparse.Namespace], Any], options: argparse.Namespace, way: str) -> Any:
    """A function in a fresh process, whose peak memory is its own."""
    options = argparse.Namespace(**{**vars(options), "way": way})
    # Forked, so that the imports are paid for once; this process itself computes nothing.
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        found = pool.submit(function, options).result()
    print(json.dumps({"stage": options.stage, "way": way, "found": found}), file=sys.stderr, flush=True)
    return found


def in_turns(ways: list[str], stage: int, options: argparse.Namespace) -> dict[str, Any]:
    """Each way as often as there are repeats, in turns, so that a changing load meets all; the fastest run counts."""
    options = argparse.Namespace(**{**vars(options), "stage": stage})
    runs = [{way: apart(run, options, way) for way in ways} for _ in range(options.repeats)]
    best = {way: max((turn[way] for turn in runs), key=itemgetter("utterances_per_cpu_second")) for way in ways}
    for way, figures in best.items() if options.count else ():
        figures["gflop_per_utterance"] = gflop = apart(gflop_of, options, way)
        figures["gflop_per_cpu_second"] = gflop * figures["utterances_per_cpu_second"]
        figures["share_of_peak"] = figures["gflop_per_cpu_second"] / figures["peak_gflop_per_second"]
    return best


def against(figures: dict[str, Any], baseline: dict[str, Any]) -> dict[str, float]:
    """Throughput and peak memory as multiples of the baseline's."""
    names = {
        "throughput_cpu": "utterances_per_cpu_second",
        "throughput_wall": "utterances_per_wall_second",
        "peak_memory": "peak_megabytes",
        "peak_memory_less_model_and_imports": "peak_megabytes_less_model_and_imports",
    }
    return {name: round(figures[key] / baseline[key], 3) for name, key in names.items()}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """The reference, ours, and ours in the reference's numerics, whose losses must be the same."""
    result: dict[str, Any] = {}
    for stage in options.stages:
        heard = ["kept", "padded"] if stage < 3 else ["padded"]
        ways = in_turns(["reference", "ours", *heard], stage, options)
        pairs = zip(ways["padded"]["losses"], ways["reference"]["losses"], strict=True)
        result[f"stage_{stage}"] = {
            **ways,
            "ours_over_reference": against(ways["ours"], ways["reference"]),
            "largest_difference_of_losses_padded": max(abs(a - b) for a, b in pairs),
        }
    return result


def breakdown(options: argparse.Namespace) -> dict[str, Any]:
    """Ours with each measure switched off alone, as multiples of ours with all of them."""
    result: dict[str, Any] = {}
    for stage in (2, 1):
        names = [name for name in MEASURES if stage == 2 or name not in ("running_sum", "still")]
        ways = in_turns(["ours", *(f"without_{name}" for name in names), "checkpointed"], stage, options)
        whole = ways.pop("ours")
        result[f"stage_{stage}"] = {name: against(figures, whole) for name, figures in ways.items()}
    return result


def profile(options: argparse.Namespace) -> dict[str, Any]:
    """Where the time of our step goes, by part and by kind of operation."""
    torch.set_num_threads(1)
    model, work, loss_of = prepared(options)
    assert model.responder is not None
    tokenizer = model.responder.language_model.tokenizer
    with TemporaryDirectory() as folder:
        loader = from_disk(Path(folder), options.batches, options.batch_size, tokenizer, options.stage < 3)
        return shares(model, work, loss_of, loader)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["compare", "breakdown", "profile", "run"])
    parser.add_argument("--sizes", choices=["small", "real"], default="small", help="of the models (default small)")
    parser.add_argument("--way", choices=WAYS, default="ours", help="of a single run or profile (default ours)")
    parser.add_argument("--stage", type=int, choices=[1, 2, 3], default=2, help="of one of those (default 2)")
    parser.add_argument("--stages", type=int, choices=[1, 2, 3], nargs="+", default=[1, 2, 3], help="to compare (all)")
    parser.add_argument("--batches", type=int, default=4, help="steps (default 4)")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances in a step (default 8)")
    parser.add_argument("--vocabulary", type=int, default=32_000, help="of the small language model (default 32,000)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each, of which the fastest counts (default 1)")
    parser.add_argument("--count", action="store_true", help="count FLOP too, in one more pass")
    arguments = parser.parse_args()
    what = {"compare": compare, "breakdown": breakdown, "profile": profile, "run": run}[arguments.what]
    print(json.dumps(what(arguments), indent=1))
