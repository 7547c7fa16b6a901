"""What a bot answers to every utterance of a manifest: in shards, over processes and machines, resumable."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import write
from empathy_lightning.batch import SpeechDataset
from empathy_lightning.chatbot import speak_replies
from empathy_lightning.checkpoints import Checkpoint, CheckpointError, load
from empathy_lightning.corpora.left_out import read_chosen
from empathy_lightning.corpora.manifest import write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.prompting import readable_batches
from empathy_lightning.files import check_folder, check_target
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
        speech: Whether the replies are spoken too.
        unit_temperature: Of the draws of their units, see :meth:`~empathy_lightning.chatbot.EmpatheticChatbot.respond`.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    speech: bool = False
    unit_temperature: float | None = None

    def __post_init__(self) -> None:
        coldest = min(self.temperature, self.unit_temperature or 0)
        if self.max_new_tokens < 1 or coldest < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                "max_new_tokens has to be at least 1, a temperature 0 or more, top_p above 0 and at most 1"
            )


def answer_manifest(
    checkpoint: Path,
    manifest: Path,
    out: Path,
    split: str = "test",
    prompt: Prompt | None = None,
    decoding: Decoding | None = None,
    batch_size: int = 16,
    per_shard: int = 512,
    max_left_out: float = 1.0,
) -> Path:
    """Let a bot answer recordings, and write a manifest with its replies as the responses.

    A run that was interrupted goes on with the shards that are missing. Speech beyond the
    encoder's window (30 s) is cut; recordings that cannot be read are named and left for the next run.

    Args:
        checkpoint: Folder of the bot; what fills its slots is what the folder says.
        manifest: Utterances.
        out: Manifest to write; the shards lie beside it, and so does the speech of the replies.
        split: Split to use, or ``all``.
        prompt: What stands around the speech; None takes each utterance's own, or the folder's.
        decoding: How words are chosen, and whether they are spoken; None writes the likeliest.
        batch_size: Recordings of like length that are answered together.
        per_shard: Utterances in a shard, the most that an interruption costs.
        max_left_out: Share of the utterances that may lack their audio file.

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
    utterances = _to_be_answered(manifest, split, prompt, max_left_out)
    decoding = decoding or Decoding()
    aloud = decoding.speech
    fields = ("response", "response_cut", *["units"] * aloud)
    if aloud:
        _check_speech_files(out, utterances)
    asked = vars(prompt) if prompt else {"user": None, "system": None}
    # None where nothing is spoken, as in shards from before there was speech.
    said = {**_fingerprint(checkpoint, utterances, manifest.parent), **asked, **vars(decoding), "speech": aloud or None}

    def _load() -> AnswerShard:
        return _answerer(checkpoint, prompt, decoding, batch_size, out)

    def _lost(row: Utterance) -> bool:
        return row.response is None or (aloud and bool(row.units) and not speech_file(out, row).is_file())

    with alone(shards):
        answered = in_shards(utterances, shards, said, _load, per_shard, "replies", _lost, fields)
        if answered is None:
            print(f"process {rank} of {world_size} is done; the one that ends last writes {out}")
            return out
        replies = [
            replace(u, response_path=str(speech_file(out, u))) if u.units else u
            for u in answered
            if u.response is not None
        ]
        if not replies:
            raise InputError(f"none of {len(utterances)} recordings can be read, for example {utterances[0].path}")
        own = out.with_name(f".process{rank}.{out.name}")
        write_manifest(own, replies)
        own.replace(out)
    _report(out, answered, aloud)
    return out


def _report(out: Path, answered: Sequence[Utterance], aloud: bool) -> None:
    unread = [u for u in answered if u.response is None]
    for u in unread:
        print(f"left out, unreadable: {u.corpus}/{u.id}, {u.path}")
    mute = sum(u.units is None for u in answered) - len(unread)
    unspoken = f", without speech: {mute}" if aloud else ""
    print(f"{len(answered) - len(unread)} replies{unspoken}, unreadable recordings: {len(unread)}\nwritten: {out}")


def speech_file(out: Path, utterance: Utterance) -> Path:
    """Where the reply to an utterance lies as speech: ``<out>.speech/CORPUS/ID.wav``, other names where these are none.

    Args:
        out: Manifest of the replies.
        utterance: Its corpus and id may hold anything.
    """

    def _name(text: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ ()+-]{0,99}", text):
            return text
        return re.sub(r"[^A-Za-z0-9_-]", "_", text[:60]) + "-" + hashlib.sha256(text.encode()).hexdigest()[:16]

    return out.with_name(f"{out.name}.speech") / _name(utterance.corpus) / f"{_name(utterance.id)}.wav"


def _check_speech_files(out: Path, utterances: Sequence[Utterance]) -> None:
    files: set[Path] = set()
    for u in utterances:
        file = speech_file(out, u)
        if file in files:
            raise InputError(f"{u.corpus}/{u.id} is there twice, so one reply's speech would replace the other's")
        files.add(file)
    for folder in {file.parent for file in files}:
        check_folder(folder)


def _to_be_answered(manifest: Path, split: str, prompt: Prompt | None, max_left_out: float) -> list[Utterance]:
    utterances = read_chosen(manifest, split, max_left_out)
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


def _answerer(checkpoint: Path, prompt: Prompt | None, decoding: Decoding, batch_size: int, out: Path) -> AnswerShard:
    loaded = load(checkpoint)
    if prompt is not None:
        loaded.model.prompt, loaded.model.system = prompt.user, prompt.system
    if loaded.model.language_model is None:
        raise CheckpointError(f"{checkpoint} cannot answer: it has no language model")
    if decoding.speech and (loaded.speech_decoder is None or loaded.vocoder is None):
        lacking = "speech decoder" if loaded.speech_decoder is None else "vocoder"
        raise CheckpointError(f"{checkpoint} cannot speak: it has no {lacking}; leave --speech out")
    loaded.to(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
    return lambda utterances, progress: _answer(loaded, decoding, batch_size, out, utterances, progress)


@torch.no_grad()
def _answer(
    loaded: Checkpoint,
    decoding: Decoding,
    batch_size: int,
    out: Path,
    utterances: Sequence[Utterance],
    progress: Any,
) -> list[Utterance]:
    """The utterances with replies, whose speech is written; those that cannot be read have none."""
    model = loaded.model
    assert model.language_model is not None
    stops, device = model.language_model.stop_ids, model.language_model.device
    answered = {id(u): replace(u, response=None, response_cut=False, units=None) for u in utterances}
    unreadable: list[str] = []
    dataset = SpeechDataset(utterances, getattr(model.speech_encoder, "max_seconds", 30.0))
    for batch, heard in readable_batches(dataset, loaded.emotions, unreadable, batch_size):
        said, emotion = model.listen(batch.to(device))
        prompts = model.prompts(batch, said, emotion)
        seeds = [seed_of(decoding.seed, u) for u in heard]
        tokens = model.respond(prompts, decoding.max_new_tokens, decoding.temperature, seeds, decoding.top_p)
        replies = [
            replace(u, response=model.text(ids), response_cut=stops.isdisjoint(ids), units=None)
            for u, ids in zip(heard, tokens, strict=True)
        ]
        if decoding.speech:
            _speak(loaded, decoding.unit_temperature, out, prompts, tokens, replies, seeds)
        answered |= {id(u): reply for u, reply in zip(heard, replies, strict=True)}
        progress.update(len(heard))
    progress.update(len(unreadable))
    for reason in unreadable:
        progress.write(f"left out: {reason}")
    return list(answered.values())


def _speak(
    loaded: Checkpoint,
    temperature: float | None,
    out: Path,
    prompts: Sequence[Tensor],
    tokens: Sequence[Sequence[int]],
    replies: Sequence[Utterance],
    seeds: Sequence[int],
) -> None:
    """Write the speech of the replies that have words, and give them their units; where there are none, none."""
    assert loaded.speech_decoder is not None and loaded.vocoder is not None
    rows = [row for row, reply in enumerate(replies) if reply.response]
    if not rows:
        return
    parts = (loaded.model, loaded.speech_decoder, loaded.vocoder)
    said = ([prompts[row] for row in rows], [tokens[row] for row in rows], [seeds[row] for row in rows])
    for row, (units, waveform) in zip(rows, speak_replies(*parts, *said, temperature), strict=True):
        if len(units):
            assert waveform is not None
            write(speech_file(out, replies[row]), waveform, loaded.vocoder.sample_rate)
            replies[row].units = units.tolist()
