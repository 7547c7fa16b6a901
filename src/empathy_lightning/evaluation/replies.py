"""What a bot answers to every utterance of a manifest: in shards, over processes and machines, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from empathy_lightning.batch import SpeechDataset
from empathy_lightning.checkpoints import Checkpoint, CheckpointError, load
from empathy_lightning.corpora.manifest import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.prompting import readable_batches
from empathy_lightning.files import check_target
from empathy_lightning.preparation.answers import AnswerShard, alone, in_shards, rank_and_world_size, seed_of
from empathy_lightning.preparation.responses import shards_of
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import Utterance


@dataclass(frozen=True)
class Decoding:
    """How words are chosen.

    Attributes:
        max_new_tokens: Longest reply.
        temperature: 0 takes the likeliest words; above it, they are drawn.
        top_p: Draw from the likeliest tokens whose probabilities reach this sum.
        seed: Seed of the draws, which depend on neither batch nor shard.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InputError("max_new_tokens has to be at least 1, temperature 0 or more, top_p above 0 and at most 1")


def answer_manifest(
    checkpoint: Path,
    manifest: Path,
    out: Path,
    split: str = "test",
    prompt: Prompt | None = None,
    decoding: Decoding | None = None,
    batch_size: int = 16,
    per_shard: int = 512,
) -> Path:
    """Let a bot answer recordings, and write a manifest with its replies as the responses.

    A run that was interrupted goes on with the shards that are missing. Speech beyond the
    encoder's window (30 s) is cut; recordings that cannot be read are named and left for the next run.

    Args:
        checkpoint: Folder of the bot; what fills its slots is what the folder says.
        manifest: Utterances.
        out: Manifest to write; the shards lie beside it.
        split: Split to use, or ``all``.
        prompt: What stands around the speech; None takes each utterance's own, or the folder's.
        decoding: How words are chosen; None takes the likeliest.
        batch_size: Recordings of like length that are answered together.
        per_shard: Utterances in a shard, the most that an interruption costs.

    Raises:
        InputError: If the checkpoint, the manifest or ``out`` cannot be used, or the shards answer something else.
    """
    if min(batch_size, per_shard) < 1:
        raise InputError("batch_size and per_shard have to be at least 1")
    check_target(out, [manifest])
    shards, (rank, world_size) = shards_of(out), rank_and_world_size()
    if out.is_file() and not shards.is_dir():
        raise InputError(
            f"{out} is there without {shards.name}, so what answered is unknown: change --out or remove it"
        )
    utterances = _to_be_answered(manifest, split, prompt)
    decoding = decoding or Decoding()
    asked = vars(prompt) if prompt else {"user": None, "system": None}
    said = {**_fingerprint(checkpoint, utterances, manifest.parent), **asked, **vars(decoding)}

    def _load() -> AnswerShard:
        return _answerer(checkpoint, prompt, decoding, batch_size)

    with alone(shards):
        answered = in_shards(utterances, shards, said, _load, per_shard, "replies", retry=True)
        if answered is None:
            print(f"process {rank} of {world_size} is done; the one that ends last writes {out}")
            return out
        replies = [u for u in answered if u.response is not None]
        if not replies:
            raise InputError(f"none of {len(utterances)} recordings can be read, for example {utterances[0].path}")
        own = out.with_name(f".process{rank}.{out.name}")
        write_manifest(own, replies)
        own.replace(out)
    unread = [u for u in answered if u.response is None]
    for u in unread:
        print(f"left out, unreadable: {u.corpus}/{u.id}, {u.path}")
    print(f"{len(replies)} replies, unreadable recordings: {len(unread)}\nwritten: {out}")
    return out


def _to_be_answered(manifest: Path, split: str, prompt: Prompt | None) -> list[Utterance]:
    utterances = [u for u in read_manifest(manifest) if split in ("all", u.split)]
    if not utterances:
        raise InputError(f"{manifest} has no utterance in split {split}; --split all takes every one")
    for u in utterances:
        try:
            json.dumps(u.to_dict(), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(f"utterance {u.corpus}/{u.id} holds text that is not UTF-8: mend or remove it") from None
    # A prompt that is given takes the place of the utterances' own too.
    return utterances if prompt is None else [replace(u, prompt=None, system=None) for u in utterances]


def _fingerprint(checkpoint: Path, utterances: Sequence[Utterance], home: Path) -> dict[str, str]:
    """What is asked and heard, beside transcripts and labels, so that shards of another training are not taken."""
    files = [checkpoint / name for name in ("config.json", "model.safetensors")]
    if not all(file.is_file() for file in files):
        raise CheckpointError(f"{checkpoint} is no checkpoint folder: config.json or model.safetensors is missing")
    digests = []
    for file in files:
        with file.open("rb") as opened:
            digests.append(hashlib.file_digest(opened, "sha256").hexdigest())
    folder = os.path.realpath(home)

    def _named(path: str | None) -> str | None:
        """Relative to the manifest, however that was typed and wherever it was moved with its recordings."""
        return path if path is None or "://" in path else os.path.relpath(os.path.realpath(path), folder)

    heard = [
        (_named(u.path), u.start, u.end, _named(u.emotion_path), u.emotion_start, u.emotion_end, u.prompt, u.system)
        for u in utterances
    ]
    return {"checkpoint": " ".join(digests), "recordings": hashlib.sha256(repr(heard).encode()).hexdigest()}


def _answerer(checkpoint: Path, prompt: Prompt | None, decoding: Decoding, batch_size: int) -> AnswerShard:
    loaded = load(checkpoint)
    if prompt is not None:
        loaded.model.prompt, loaded.model.system = prompt.user, prompt.system
    if loaded.model.language_model is None:
        raise CheckpointError(f"{checkpoint} cannot answer: it has no language model")
    loaded.model.to(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
    return lambda utterances, progress: _answer(loaded, decoding, batch_size, utterances, progress)


@torch.no_grad()
def _answer(
    loaded: Checkpoint, decoding: Decoding, batch_size: int, utterances: Sequence[Utterance], progress: Any
) -> list[Utterance]:
    """The utterances with replies; those that cannot be read have none."""
    model = loaded.model
    assert model.language_model is not None
    stops, device = model.language_model.stop_ids, model.language_model.device
    answered = {id(u): replace(u, response=None, response_cut=False) for u in utterances}
    unreadable: list[str] = []
    dataset = SpeechDataset(utterances, getattr(model.speech_encoder, "max_seconds", 30.0))
    for batch, heard in readable_batches(dataset, loaded.emotions, unreadable, batch_size):
        said, emotion = model.listen(batch.to(device))
        prompts = model.prompts(batch, said, emotion)
        seeds = [seed_of(decoding.seed, u) for u in heard]
        tokens = model.respond(prompts, decoding.max_new_tokens, decoding.temperature, seeds, decoding.top_p)
        for utterance, ids in zip(heard, tokens, strict=True):
            reply = replace(utterance, response=model.text(ids), response_cut=stops.isdisjoint(ids))
            answered[id(utterance)] = reply
        progress.update(len(heard))
    progress.update(len(unreadable))
    for reason in unreadable:
        progress.write(f"left out: {reason}")
    return list(answered.values())
