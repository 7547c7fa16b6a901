"""Answers of the frozen language model to many prompts: in shards, over processes and machines, resumable."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from empathy_lightning.corpora.manifest import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.preparation.engines import Answerer, Generation
from empathy_lightning.prompts import fill
from empathy_lightning.utterance import Utterance


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is and of how many, as torchrun says it in the environment."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


AnswerShard = Callable[[Sequence[Utterance], Any], list[Utterance]]
"""Gives the utterances of a shard their responses, and moves the progress bar by each that is done."""


def answer_in_shards(
    utterances: Sequence[Utterance], folder: Path, generation: Generation, per_shard: int = 1024
) -> list[Utterance] | None:
    """Let the frozen model answer each transcript; see :func:`in_shards`.

    Args:
        utterances: With transcripts and, for a prompt with an emotion slot, emotions.
        folder: Where the shards go.
        generation: Model, prompt and lengths.
        per_shard: Utterances in a shard.
    """

    def _load() -> AnswerShard:
        answerer = generation.answerer()
        return lambda shard, progress: _answer_shard(shard, answerer, generation, progress)

    said = {key: value for key, value in vars(generation).items() if key != "prompt"} | vars(generation.prompt)
    what = f"replies to {'labels' if '{emotion}' in generation.prompt.user else 'transcripts'}"
    return in_shards(utterances, folder, said, _load, per_shard, what)


def in_shards(
    utterances: Sequence[Utterance],
    folder: Path,
    said: dict[str, Any],
    load: Callable[[], AnswerShard],
    per_shard: int,
    what: str,
    again: Callable[[Utterance], bool] | None = None,
    fields: Sequence[str] = ("response", "response_cut"),
) -> list[Utterance] | None:
    """Answer each utterance; every shard is written whole or not at all, and those that are there are kept.

    Shards hold consecutive utterances, so neither the number of processes nor an
    interruption changes any answer. Process r of n makes the shards r, r + n, ...

    Args:
        utterances: To be answered.
        folder: Where ``part-*.parquet`` go, manifests each.
        said: What decides the answers beside the utterances, as JSON values.
        load: Makes what answers a shard; called only where one is missing.
        per_shard: Utterances in a shard.
        what: Stands before the progress bar.
        again: Which rows of a shard that is there are asked again; None leaves it as it is.
        fields: What an answer consists of; a recording or units that are no part of it belonged to another one and go.

    Returns:
        The utterances with their responses (None where there is none to give), or None while other processes still
        owe shards.

    Raises:
        InputError: If the folder holds answers to something else.
    """
    rank, world_size = rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, utterances, {**said, "per_shard": per_shard})
    shards = [utterances[start : start + per_shard] for start in range(0, len(utterances), per_shard)]
    paths = [folder / f"part-{index:05d}.parquet" for index in range(len(shards))]
    mine = range(rank, len(shards), world_size)
    owed = {index: _owed(_read_shard(paths[index], shards[index]), shards[index], again) for index in mine}
    left = sum(map(len, owed.values()))
    if left:
        answer = load()
        total = sum(len(shards[index]) for index in mine)
        with tqdm(total=total, initial=total - left, desc=what, position=rank) as progress:
            for index, positions in owed.items():
                if positions:
                    rows = _read_shard(paths[index], shards[index]) or list(shards[index])
                    made = answer([shards[index][position] for position in positions], progress)
                    for position, row in zip(positions, made, strict=True):
                        rows[position] = row
                    write_manifest(paths[index], rows)
    answered: list[Utterance] = []
    for path, shard in zip(paths, shards, strict=True):
        present = _read_shard(path, shard)
        if present is None:
            return None
        for u, row in zip(shard, present, strict=True):
            answer_of: dict[str, Any] = {name: getattr(row, name) for name in fields}
            answered.append(replace(u, **{"response_path": None, "units": None, **answer_of}))
    return answered


def _owed(
    rows: Sequence[Utterance] | None, shard: Sequence[Utterance], again: Callable[[Utterance], bool] | None
) -> list[int]:
    """Positions in a shard that are to be answered: all where it is not there."""
    if rows is None:
        return list(range(len(shard)))
    return [position for position, row in enumerate(rows) if again is not None and again(row)]


def _read_shard(path: Path, shard: Sequence[Utterance]) -> list[Utterance] | None:
    """The answers of a shard; None if it is not there, cannot be read or answers something else."""
    try:
        rows = read_manifest(path) if path.is_file() else []
    except InputError:
        return None
    return rows if [(row.corpus, row.id) for row in rows] == [(u.corpus, u.id) for u in shard] else None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder of shards for this process; the lock is gone with the process, however it ends.

    Raises:
        InputError: If another process of this rank works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".process{rank_and_world_size()[0]}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"another process makes {folder} now: wait for it, or change --out") from None
        except OSError:
            # Some shared file systems have no locks; work without one then.
            pass
        yield


def _answer_shard(
    utterances: Sequence[Utterance],
    answerer: Answerer,
    generation: Generation,
    progress: Any,
) -> list[Utterance]:
    """Prompts of like length share a batch, which keeps the padding low."""
    segments = generation.prompt.segments(answerer.tokenizer)

    def _ids(text: str | None) -> list[int]:
        return literal_ids(answerer.tokenizer, text or "")

    prompts = [fill(segments, {"speech": _ids(u.transcript), "emotion": _ids(u.emotion)}) for u in utterances]
    most = math.inf if answerer.positions is None else answerer.positions - generation.max_new_tokens
    fitting = [index for index in range(len(prompts)) if len(prompts[index]) <= most]
    order = sorted(fitting, key=lambda index: len(prompts[index]))
    answered = [replace(u, response=None, response_cut=False) for u in utterances]
    progress.update(len(prompts) - len(order))
    for start in range(0, len(order), answerer.at_once):
        batch = order[start : start + answerer.at_once]
        seeds = [seed_of(generation.seed, utterances[index]) for index in batch]
        for index, answer in zip(batch, answerer.answer([prompts[index] for index in batch], seeds), strict=True):
            answered[index] = replace(utterances[index], response=answer.text, response_cut=answer.cut)
        progress.update(len(batch))
    return answered


def seed_of(seed: int, utterance: Utterance) -> int:
    """Of an utterance's own draws, so that they depend on neither its batch nor its shard."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utterance.corpus} {utterance.id}".encode()).digest()[:4], "little")


def _claim(folder: Path, utterances: Sequence[Utterance], said: dict[str, Any]) -> None:
    """Write down what the shards answer, or check that it is the same."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(json.dumps([u.corpus, u.id, u.transcript, u.emotion]).encode())
    claim = {**said, "utterances": digest.hexdigest()}
    path = folder / "generation.json"
    if path.is_file() and any(folder.glob("part-*.parquet")):
        try:
            then = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            then = None
        if not isinstance(then, dict):
            raise InputError(f"{path} is damaged: change --out, or remove {folder}")
        changed = ", ".join(key for key in claim if then.get(key) != claim[key])
        if changed:
            out = str(folder).removesuffix(".shards")
            raise InputError(
                f"{folder} holds answers to something else ({changed} changed): change --out, or remove it and {out}"
            )
        return
    partial = folder / f".process{rank_and_world_size()[0]}.generation.json"
    partial.write_text(json.dumps(claim, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
