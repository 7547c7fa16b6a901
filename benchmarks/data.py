"""How fast the data come: padding, the loader beside a bare decoding loop, and a manifest of a million.

    python benchmarks/data.py padding
    python benchmarks/data.py loader --workers 2
    python benchmarks/data.py manifest --utterances 1000000 --format jsonl
    python benchmarks/data.py ranks --utterances 1000000
    python benchmarks/data.py storage --utterances 1000

Each prints one JSON object. The audio is synthetic noise; the lengths are log-normal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import soundfile
import torch

from empathy_lightning.audio import read
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.protocols import LeaveOneOut, RandomSubset, SentenceSplit
from empathy_lightning.data.sampler import LengthBucketSampler
from empathy_lightning.data.shard_export import write_shards
from empathy_lightning.data.shards import Shards
from empathy_lightning.utterance import Utterance


def log_normal(count: int) -> list[float]:
    """Seconds of utterances: median 2.7 s, a tenth of them above 5.9 s."""
    generator = random.Random(0)
    return [generator.lognormvariate(1.0, 0.6) for _ in range(count)]


def padding(options: argparse.Namespace) -> dict[str, Any]:
    """Share of padding of our batches and of random batches of 16."""
    seconds = log_normal(options.utterances or 20_000)

    def _share(batches: list[list[int]]) -> float:
        padded = sum(len(batch) * max(seconds[i] for i in batch) for batch in batches)
        return round(1 - sum(seconds[i] for batch in batches for i in batch) / padded, 4)

    order = random.Random(1).sample(range(len(seconds)), len(seconds))
    ours = [[draw.row for draw in batch] for batch in LengthBucketSampler(seconds, 80.0)]
    naive = [order[i : i + 16] for i in range(0, len(order), 16)]
    return {"utterances": len(seconds), "ours": _share(ours), "batches": len(ours), "random_of_16": _share(naive)}


def bare(paths: list[str]) -> float:
    """The baseline: decode and resample one file after the other; seconds of audio."""
    torch.set_num_threads(1)
    return sum(len(read(path)) for path in paths) / 16_000


def loader(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of audio per second: our loader from files and from shards, and bare loops in as many processes."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_noise(Path(folder), options.utterances or 1_500)
        paths = [u.path for u in read_manifest(manifest)]
        shards = write_shards(read_manifest(manifest), Path(folder) / "shards", 500)
        with ProcessPoolExecutor(options.workers) as pool:
            list(pool.map(bare, [paths[:10]] * options.workers))
            begin = time.perf_counter()
            total = sum(pool.map(bare, [paths[k :: options.workers] for k in range(options.workers)]))
            rates = {"bare_loop": total / (time.perf_counter() - begin)}
        for name, corpus in {"files": Manifest(str(manifest)), "shards": Shards(str(shards))}.items():
            data = EmpathyDataModule([corpus], num_workers=options.workers)
            data.setup()
            batches = data.train_dataloader()
            for _ in zip(range(3), batches, strict=False):
                pass
            batches.batch_sampler.set_epoch(1)
            begin = time.perf_counter()
            total = sum(float(batch.lengths.sum()) for batch in batches) / 16_000
            rates[name] = total / (time.perf_counter() - begin)
    shares = {f"{name}_of_bare": round(rates[name] / rates["bare_loop"], 3) for name in ("files", "shards")}
    return {"workers": options.workers, **{k: round(v) for k, v in rates.items()}, **shares}


def write_noise(folder: Path, count: int) -> Path:
    """FLAC files of noise at 24 kHz, so that there is something to resample."""
    generator, utterances = np.random.default_rng(0), []
    for index, seconds in enumerate(log_normal(count)):
        path = folder / f"{index}.flac"
        soundfile.write(path, 0.1 * generator.standard_normal(round(seconds * 24_000)), 24_000)
        split = "validation" if index == 0 else "train"
        utterances.append(Utterance(str(index), "noise", str(path), duration=seconds, split=split))
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"


def manifest(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of what is done with a large manifest: opened, split, put in batches, gone on with."""
    count = options.utterances or 1_000_000
    took: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"manifest.{options.format}"
        with ProcessPoolExecutor(1) as pool:
            pool.submit(write_large, path, count, log_normal(1_000)).result()
        imports = peak()
        with timed(took, "open"):
            utterances = read_manifest(path)
        opened = peak()
        with timed(took, "split_by_speaker"):
            LeaveOneOut()(utterances)
        with timed(took, "split_by_sentence"):
            SentenceSplit()(utterances)
        with timed(took, "random_subset"):
            RandomSubset({"train": count // 10})(utterances)
    seconds = [u.duration or 0.0 for u in utterances]
    for name, weights in {"": None, "_weighted": [1.5] * count}.items():
        with timed(took, f"first_batch{name}"):
            sampler = LengthBucketSampler(seconds, 80.0, weights=weights)
            next(iter(sampler))
        half = sampler.position(0, len(sampler) // 2, finished=False)
        for processes in (1, 4):
            with timed(took, f"resume_on_{processes}{name}"):
                sampler = LengthBucketSampler(seconds, 80.0, weights=weights, num_replicas=processes)
                sampler.resume(half)
                next(iter(sampler))
    memory = {"imports": imports, "opened": opened, "in_all": peak()}
    return {"utterances": len(utterances), "format": options.format, "seconds": took, "peak_gigabytes": memory}


def ranks(options: argparse.Namespace) -> dict[str, Any]:
    """Memory of each of two processes that train over one manifest, each with a loader process."""
    count = options.utterances or 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"manifest.{options.format}"
        with ProcessPoolExecutor(1) as pool:
            pool.submit(write_large, path, count, log_normal(1_000)).result()
        with ProcessPoolExecutor(2) as pool:
            each = list(pool.map(rank_memory, [str(path)] * 2))
    return {"utterances": count, "format": options.format, "megabytes_of_each": each}


def rank_memory(path: str) -> dict[str, Any]:
    """What one process holds of a manifest, and its loader process of its own, in MB."""
    took: dict[str, Any] = {}
    memory = {"imports": held()}
    with timed(took, "seconds_to_open"):
        data = EmpathyDataModule([Manifest(path)], read_audio=False, num_workers=1)
        data.setup("fit")
    memory["opened"] = held()
    with timed(took, "seconds_to_the_first_batch"):
        batches = iter(data.train_dataloader())
        next(batches)
    for _ in zip(range(200), batches, strict=False):
        pass
    memory["training"] = held()
    worker = multiprocessing.active_children()[0].pid
    return {**memory, "peak": round(1024 * peak()), "of_the_loader_alone": round(1024 * private(worker)), **took}


def held() -> dict[str, int]:
    """What a process holds of its own, and the pages of files that it has read and the system may take back, in MB."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            found["own" if name == "RssAnon" else "of_files"] = round(int(value.split()[0]) / 1024)
    return found


def private(process: int | None) -> float:
    """Memory that a process shares with no other one, in GB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 2**20, 2)


def storage(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes that are asked for of shards behind a URL, as shares of the bytes of the recordings that are heard."""
    from fsspec.implementations.memory import MemoryFileSystem

    asked: list[int] = []

    class Counting(MemoryFileSystem):
        """Memory that counts what is read of it, as a server would send it."""

        protocol = "counting"
        cachable = False

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **how: Any) -> bytes:
            found = super().cat_file(path, start=start, end=end, **how)
            asked.append(len(found))
            return bytes(found)

    fsspec.register_implementation("counting", Counting)
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_noise(Path(folder), options.utterances or 1_000)
        write_shards(read_manifest(manifest), "counting://corpus", 500)
    data = EmpathyDataModule([Shards("counting://corpus")], num_workers=0)
    data.setup()
    utterances = [u for rows in data.splits.values() for u in rows]
    sizes = {u.path: int(u.path.rpartition("+")[2]) for u in utterances}
    whole, found = sum(sizes.values()), {"listed": sum(asked), "requests_to_list": len(asked)}
    for name, rows in {
        "in_order": utterances,
        "shuffled": random.Random(0).sample(utterances, len(utterances)),
        "a_tenth_at_random": random.Random(1).sample(utterances, len(utterances) // 10),
    }.items():
        asked.clear()
        for utterance in rows:
            read(utterance.path)
        found[name] = round(sum(asked) / sum(sizes[u.path] for u in rows), 4)
    per_utterance = {
        "bytes_of_a_recording": round(whole / len(utterances)),
        "bytes_listed_per_utterance": round(found["listed"] / len(utterances)),
        "listing_and_epoch": round((found["listed"] + whole * found["shuffled"]) / whole, 4),
    }
    return {"utterances": len(utterances), **found, **per_utterance}


@contextmanager
def timed(took: dict[str, Any], name: str) -> Iterator[None]:
    """Note the seconds that a step takes, on the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    took[name] = f"{clock:.2f}, of the processor {processor:.2f}"


def peak() -> float:
    """The most memory that this process has held, in GB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def write_large(path: Path, count: int, seconds: list[float]) -> None:
    """Write a manifest of many utterances, in a process of its own so that its memory is not counted."""
    rows = (
        Utterance(
            id=f"utterance_{index:08d}",
            corpus="noise",
            path=f"audio/{index // 1000:05d}/utterance_{index:08d}.flac",
            duration=seconds[index % len(seconds)],
            transcript="what was said in this one",
            speaker=str(index % 5_000),
            split="train",
            emotion="neutral",
            arousal=0.5,
            raw_labels={"emotion": "neu"},
        )
        for index in range(count)
    )
    write_manifest(path, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["padding", "loader", "manifest", "ranks", "storage"])
    parser.add_argument("--utterances", type=int, help="how many (default: 20,000, 1,500, 1,000,000 twice, 1,000)")
    parser.add_argument("--format", choices=["parquet", "jsonl"], default="parquet", help="of the manifest")
    parser.add_argument("--workers", type=int, default=2, help="loader processes (default 2)")
    arguments = parser.parse_args()
    measures = {"padding": padding, "loader": loader, "manifest": manifest, "ranks": ranks, "storage": storage}
    measure = measures[arguments.what]
    print(json.dumps(measure(arguments), indent=1))
