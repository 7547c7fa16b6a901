"""Answers of the frozen language model to many prompts: in shards, over processes and machines, resumable."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from empathy_lightning.corpora.manifest import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.modules.pretrained import locate
from empathy_lightning.prompts import Prompt, fill
from empathy_lightning.utterance import Utterance


@dataclass(frozen=True)
class Answer:
    """A reply and whether it was cut.

    Attributes:
        text: The words, stripped.
        cut: Whether the longest length ended it instead of the model.
    """

    text: str
    cut: bool


Answerer = Callable[[Sequence[list[int]], Sequence[int]], list[Answer]]
"""Answers prompts given as token ids; the numbers are the seeds of their draws."""


@dataclass(frozen=True)
class Generation:
    """What decides the answers beside the utterances; a folder of shards belongs to one of these.

    Attributes:
        language_model: Folder or model id of the frozen model.
        prompt: Its slots are filled with words.
        max_new_tokens: Longest answer.
        temperature: 0 takes the likeliest words; above it, they are drawn.
        seed: Seed of the draws.
        batch_size: Prompts per generation.
        dtype: Precision of the weights.
        engine: ``transformers`` or ``vllm``.
    """

    language_model: str
    prompt: Prompt
    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 64
    dtype: str = "float32"
    engine: str = "transformers"

    def answerer(self) -> Answerer:
        """Load the model.

        Raises:
            InputError: If there is no such engine, or it is not installed.
        """
        if self.engine == "vllm":
            return _with_vllm(self)
        if self.engine != "transformers":
            raise InputError(f"no engine named {self.engine!r}; there are transformers and vllm")
        return _with_transformers(self)


def load_language_model(name_or_path: str, dtype: str = "float32") -> LanguageModel:
    """The frozen model on this process's device.

    Raises:
        InputError: If it cannot be loaded.
    """
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    try:
        return LanguageModel.from_pretrained(name_or_path, dtype=dtype).to(device)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"language model {name_or_path} cannot be loaded: {' '.join(str(error).split())}") from None


def _with_transformers(generation: Generation) -> Answerer:
    model = load_language_model(generation.language_model, generation.dtype)
    stops = model.stop_ids

    @torch.no_grad()
    def _answer(prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Answer]:
        rows = [model.embed(ids) for ids in prompts]
        replies = model.generate(
            *pack(rows, left=True), generation.max_new_tokens, temperature=generation.temperature, seed=seeds
        )
        texts = [model.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in replies]
        return [Answer(text, stops.isdisjoint(ids)) for text, ids in zip(texts, replies, strict=True)]

    return _answer


def _with_vllm(generation: Generation) -> Answerer:
    """Batches are continuous in vLLM by itself. This path was never run: see docs/expected-responses.md."""
    try:
        import vllm
    except ImportError:
        raise InputError("vLLM is not installed; `pip install vllm`, or leave --engine out") from None
    model = vllm.LLM(model=str(locate(generation.language_model)), dtype=generation.dtype, seed=generation.seed)

    def _answer(prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Answer]:
        sampling = [
            vllm.SamplingParams(temperature=generation.temperature, max_tokens=generation.max_new_tokens, seed=seed)
            for seed in seeds
        ]
        done = model.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        return [Answer(d.outputs[0].text.strip(), d.outputs[0].finish_reason == "length") for d in done]

    return _answer


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
        answerer, tokenizer = generation.answerer(), _tokenizer(generation.language_model)
        return lambda shard, progress: _answer_shard(shard, answerer, tokenizer, generation, progress)

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

    Returns:
        The utterances with their responses, or None while other processes still owe shards.

    Raises:
        InputError: If the folder holds answers to something else.
    """
    rank, world_size = rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, utterances, {**said, "per_shard": per_shard})
    shards = [utterances[start : start + per_shard] for start in range(0, len(utterances), per_shard)]
    paths = [folder / f"part-{index:05d}.parquet" for index in range(len(shards))]
    mine = range(rank, len(shards), world_size)
    missing = [index for index in mine if not paths[index].is_file()]
    if missing:
        answer = load()
        done = sum(len(shards[index]) for index in mine if index not in missing)
        total = sum(len(shards[index]) for index in mine)
        with tqdm(total=total, initial=done, desc=what, position=rank) as progress:
            for index in missing:
                write_manifest(paths[index], answer(shards[index], progress))
    if not all(path.is_file() for path in paths):
        return None
    rows = (row for path in paths for row in read_manifest(path))
    return [
        # A recording or units of another answer do not belong to this one.
        replace(u, response=row.response, response_cut=row.response_cut, response_path=None, units=None)
        for u, row in zip(utterances, rows, strict=True)
    ]


def _answer_shard(
    utterances: Sequence[Utterance],
    answerer: Answerer,
    tokenizer: Any,
    generation: Generation,
    progress: Any,
) -> list[Utterance]:
    """Prompts of like length share a batch, which keeps the padding low."""
    segments = generation.prompt.segments(tokenizer)

    def _ids(text: str | None) -> list[int]:
        ids: list[int] = tokenizer(text or "", add_special_tokens=False).input_ids
        return ids

    prompts = [fill(segments, {"speech": _ids(u.transcript), "emotion": _ids(u.emotion)}) for u in utterances]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answered = list(utterances)
    for start in range(0, len(order), generation.batch_size):
        batch = order[start : start + generation.batch_size]
        seeds = [seed_of(generation.seed, utterances[index]) for index in batch]
        for index, answer in zip(batch, answerer([prompts[index] for index in batch], seeds), strict=True):
            answered[index] = replace(utterances[index], response=answer.text, response_cut=answer.cut)
        progress.update(len(batch))
    return answered


def seed_of(seed: int, utterance: Utterance) -> int:
    """Of an utterance's own draws, so that they depend on neither its batch nor its shard."""
    return int.from_bytes(hashlib.sha256(f"{seed} {utterance.corpus} {utterance.id}".encode()).digest()[:4], "little")


def _tokenizer(name_or_path: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(locate(name_or_path))


def _claim(folder: Path, utterances: Sequence[Utterance], said: dict[str, Any]) -> None:
    """Write down what the shards answer, or check that it is the same."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(json.dumps([u.corpus, u.id, u.transcript, u.emotion]).encode())
    claim = {**said, "utterances": digest.hexdigest()}
    path = folder / "generation.json"
    if path.is_file() and any(folder.glob("part-*.parquet")):
        then = json.loads(path.read_text(encoding="utf-8"))
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
