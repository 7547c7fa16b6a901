"""Answers of the frozen language model to many prompts: in shards, over processes and machines, resumable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empathy_lightning.data.manifest import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.jobs import Claim, check_again, rank_and_world_size, seed_of, settled, speech_files
from empathy_lightning.modules.chat_format import literal_ids
from empathy_lightning.preparation.engines import Answerer, Generation
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.prompts import Segment, fill
from empathy_lightning.utterance import SPOKEN, Utterance

AnswerShard = Callable[[Sequence[Utterance], Any], list[Utterance]]
"""Gives the utterances of a shard their responses, and moves the progress bar by each that is done."""


def shards_of(out: Path) -> Path:
    """Folder of the raw answers behind a manifest."""
    return out.with_name(f"{out.name}.shards")


def check_shards(out: Path, again: bool) -> None:
    """Refuse a manifest without the shards that it would be written from, or beside which they cannot be written.

    Raises:
        InputError: If so, and it is not to be made anew.
    """
    check_target(Claim(out, {}).path, [])
    check_folder(shards_of(out))
    if again:
        check_again(shards_of(out))
    if out.is_file() and not shards_of(out).is_dir() and not again:
        raise InputError(
            f"{out} is there without {shards_of(out).name}, so what answered is unknown: change --out, or make it "
            "anew with --again"
        )


def check_speech_files(out: Path, utterances: Sequence[Utterance]) -> None:
    """Refuse places for the speech of utterances in which nothing can be written.

    Raises:
        InputError: If there is one.
    """
    for folder in {file.parent for file in speech_files(out, utterances)}:
        check_folder(folder)


def tell_of_share(out: Path) -> None:
    """Tell that this process has done its share, and that another one writes ``out``."""
    rank, world_size = rank_and_world_size()
    print(f"process {rank} of {world_size} is done; the one that ends last writes {out}")


def answer_in_shards(
    utterances: Sequence[Utterance], folder: Path, generation: Generation, per_shard: int = 1024, again: bool = False
) -> list[Utterance] | None:
    """Let the frozen model answer each transcript; see :func:`in_shards`.

    A template may put today's date into the prompt, so the first process's rendering serves the whole job.

    Args:
        utterances: With transcripts and, for a prompt with an emotion slot, emotions.
        folder: Where the shards go.
        generation: Model, prompt and lengths.
        per_shard: Utterances in a shard.
        again: Remove what is there first.
    """

    def _load() -> AnswerShard:
        answerer = generation.answerer()
        segments = settled(folder, "prompt", lambda: generation.prompt.segments(answerer.tokenizer))
        return lambda shard, progress: _answer_shard(shard, answerer, generation, segments, progress)

    what = "replies to labels" if "{emotion}" in generation.prompt.user else "replies to transcripts"
    return in_shards(utterances, folder, asked(generation), _load, per_shard, what, again=again)


def asked(generation: Generation) -> dict[str, Any]:
    """What decides the answers beside the utterances, as JSON values."""
    # How many are asked at a time changes no answer, and is what memory decides.
    decides = {key: value for key, value in vars(generation).items() if key not in ("prompt", "batch_size")}
    said = decides | vars(generation.prompt)
    return said | {"language_model": model_identity(generation.language_model)}


def in_shards(
    utterances: Sequence[Utterance],
    folder: Path,
    said: dict[str, Any],
    load: Callable[[], AnswerShard],
    per_shard: int,
    what: str,
    lost: Callable[[Utterance, Utterance], bool] | None = None,
    fields: Sequence[str] = ("response", "response_cut"),
    again: bool = False,
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
        lost: Whether an utterance is asked again, by its row in a shard; None leaves shards as they are.
        fields: What an answer consists of; a recording or units that are no part of it belonged to another one and go.
        again: Remove the shards that are there first.

    Returns:
        The utterances with their responses (None where there is none to give), or None while other processes still
        owe shards.

    Raises:
        InputError: If the folder holds answers to something else.
    """
    rank, world_size = rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    made_from = {**said, "per_shard": per_shard, "utterances": _digest(utterances)}
    claim = Claim(folder, made_from, "part-*.parquet")
    # Claimed before the first shard: one of a run that is killed is known as its own by the next.
    if not claim.is_met(again):
        claim.write()
    shards = [utterances[start : start + per_shard] for start in range(0, len(utterances), per_shard)]
    paths = [folder / f"part-{index:05d}.parquet" for index in range(len(shards))]
    mine = range(rank, len(shards), world_size)
    owed = {index: _owed(paths[index], shards[index], lost) for index in mine}
    left = sum(map(len, owed.values()))
    if left:
        answer = load()
        total = sum(len(shards[index]) for index in mine)
        with progress_bar(total=total, done=total - left, what=what, line=rank) as progress:
            for index, positions in owed.items():
                if positions:
                    _make(answer, shards[index], paths[index], positions, progress)
    return _gathered(shards, paths, fields)


def _make(answer: AnswerShard, shard: Sequence[Utterance], path: Path, positions: Sequence[int], progress: Any) -> None:
    """Answer what a shard owes, and write it with what it holds already."""
    rows = _read_shard(path, shard) or list(shard)
    made = answer([shard[position] for position in positions], progress)
    for position, row in zip(positions, made, strict=True):
        rows[position] = row
    write_manifest(path, rows)


def _gathered(
    shards: Sequence[Sequence[Utterance]], paths: Sequence[Path], fields: Sequence[str]
) -> list[Utterance] | None:
    """The utterances with what all shards answer; None where one is missing."""
    answered: list[Utterance] = []
    # Read again, as other processes make some of them.
    for path, shard in zip(paths, shards, strict=True):
        present = _read_shard(path, shard)
        if present is None:
            return None
        for u, row in zip(shard, present, strict=True):
            answer_of: dict[str, Any] = {name: getattr(row, name) for name in fields}
            # How an earlier reply was spoken goes with its recording.
            labels = {name: label for name, label in u.raw_labels.items() if name not in SPOKEN}
            answered.append(replace(u, **{"response_path": None, "units": None, "raw_labels": labels, **answer_of}))
    return answered


def _owed(path: Path, shard: Sequence[Utterance], lost: Callable[[Utterance, Utterance], bool] | None) -> list[int]:
    """Positions in a shard that are to be answered: all where it is not there."""
    rows = _read_shard(path, shard)
    if rows is None:
        return list(range(len(shard)))
    if lost is None:
        return []
    return [position for position, row in enumerate(rows) if lost(shard[position], row)]


def _read_shard(path: Path, shard: Sequence[Utterance]) -> list[Utterance] | None:
    """The answers of a shard; None if it is not there, cannot be read or answers something else."""
    try:
        rows = read_manifest(path) if path.is_file() else []
    except InputError:
        return None
    is_of_shard = [(row.corpus, row.id) for row in rows] == [(u.corpus, u.id) for u in shard]
    return rows if is_of_shard else None


def _answer_shard(
    utterances: Sequence[Utterance],
    answerer: Answerer,
    generation: Generation,
    segments: Sequence[Segment],
    progress: Any,
) -> list[Utterance]:
    """Prompts of like length share a batch, which keeps the padding low."""

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
        answers = answerer.answer([prompts[index] for index in batch], seeds)
        for index, answer in zip(batch, answers, strict=True):
            # A shard has no other room for why there is no response: one that never came to its words was cut.
            cut = answer.cut or answer.text is None
            answered[index] = replace(utterances[index], response=answer.text, response_cut=cut)
        progress.update(len(batch))
    return answered


def no_answer(answered: Utterance) -> str | None:
    """Why an utterance of :func:`answer_in_shards` has no response; None if it has one."""
    if answered.response is not None:
        return None
    return "thinking only" if answered.response_cut else "prompt too long for the model"


def _digest(utterances: Sequence[Utterance]) -> str:
    read = hashlib.sha256()
    for u in utterances:
        read.update(json.dumps([u.corpus, u.id, u.transcript, u.emotion]).encode())
    return read.hexdigest()
