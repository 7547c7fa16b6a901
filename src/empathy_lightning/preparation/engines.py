"""The engines that answer prompts: transformers, or vLLM where it is installed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch

from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError, meant
from empathy_lightning.modules.chat_format import end_token_id
from empathy_lightning.modules.language_model import LanguageModel, pack
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import dtype_named, load_tokenizer, locate
from empathy_lightning.prompts import Prompt
from empathy_lightning.thinking import is_only_thinking, reply_text


@dataclass(frozen=True)
class Answer:
    """A reply and whether it was cut.

    Attributes:
        text: The words, without thinking; None where there is nothing else.
        cut: Whether the longest length ended it instead of the model.
    """

    text: str | None
    cut: bool

    @classmethod
    def of(cls, tokenizer: Any, ids: Sequence[int], cut: bool) -> Answer:
        """The answer that a reply's token ids spell."""
        text = None if is_only_thinking(tokenizer, ids) else reply_text(tokenizer, ids)
        return cls(text, cut)


@dataclass(frozen=True)
class Answerer:
    """A loaded language model that answers prompts.

    Attributes:
        answer: Prompts as token ids, and the seeds of their draws, to answers.
        tokenizer: The model's.
        positions: Tokens that a prompt and its reply may have together; None where the model does not say.
        at_once: Prompts that it is given together.
    """

    answer: Callable[[Sequence[list[int]], Sequence[int]], list[Answer]]
    tokenizer: Any
    positions: int | None
    at_once: int


@dataclass(frozen=True)
class Generation:
    """What decides the answers beside the utterances; a folder of shards belongs to one of these.

    Attributes:
        language_model: Folder or model id of the frozen model.
        prompt: Its slots are filled with words.
        max_new_tokens: Longest answer.
        temperature: 0 takes the likeliest words; above it, they are drawn.
        seed: Seed of the draws.
        batch_size: Prompts per generation; vLLM takes those of a shard and makes its own batches.
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
            InputError: If there is no such engine, or it is not installed, or it cannot load the model.
        """
        if self.engine == "vllm":
            return _with_vllm(self)
        if self.engine != "transformers":
            near = meant(self.engine, ["transformers", "vllm"])
            raise InputError(f"no engine named {self.engine!r}; there are transformers and vllm{near}")
        return _with_transformers(self)


def load_language_model(name_or_path: str, dtype: str = "float32") -> LanguageModel:
    """The frozen model on this process's device.

    Raises:
        InputError: If it cannot be loaded.
    """
    return LanguageModel.from_pretrained(name_or_path, dtype=cast(Any, dtype)).to(own_device())


def _with_transformers(generation: Generation) -> Answerer:
    model = load_language_model(generation.language_model, generation.dtype)
    stops = model.stop_ids

    @torch.no_grad()
    def _answer(prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Answer]:
        rows = [model.embed(ids) for ids in prompts]
        replies = model.generate(
            *pack(rows, left=True), generation.max_new_tokens, temperature=generation.temperature, seed=seeds
        )
        return [Answer.of(model.tokenizer, ids, stops.isdisjoint(ids)) for ids, _ in replies]

    positions = getattr(model.model.config.get_text_config(), "max_position_embeddings", None)
    return Answerer(_answer, model.tokenizer, positions, generation.batch_size)


def _with_vllm(generation: Generation) -> Answerer:
    """Replies end in vLLM at the same tokens: the template's and the tokenizer's, and the generation config's."""
    try:
        import vllm
    except ImportError as error:
        raise InputError(f"vLLM is not installed, or not whole ({error}); install it or leave --engine out") from None
    name, options = generation.language_model, {}
    if generation.temperature > 0 and vllm.platforms.current_platform.is_cpu():
        # Drawing with seeds fails there (vLLM 0.32) where a prompt is processed in parts.
        options["enable_chunked_prefill"] = False
    try:
        load_tokenizer(name)
        dtype = str(dtype_named(generation.dtype)).removeprefix("torch.")
        with _own_device():
            # -1 takes the longest context for which there is memory.
            model = vllm.LLM(locate(name), dtype=dtype, max_model_len=-1, **options)
    except PretrainedError as error:
        raise InputError(str(error)) from None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"vLLM cannot load {name}: {' '.join(str(error).split())}"[:300]) from None
    _end_by_exit()
    tokenizer = model.get_tokenizer()
    end = end_token_id(tokenizer)
    ends = [] if end is None else [end]

    def _sampling(seed: int) -> Any:
        return vllm.SamplingParams(
            temperature=generation.temperature,
            max_tokens=generation.max_new_tokens,
            seed=seed,
            detokenize=False,
            stop_token_ids=ends,
        )

    def _answer(prompts: Sequence[list[int]], seeds: Sequence[int]) -> list[Answer]:
        sampling = [_sampling(seed) for seed in seeds]
        asked = [vllm.TokensPrompt(prompt_token_ids=ids) for ids in prompts]
        done = [result.outputs[0] for result in model.generate(asked, sampling, use_tqdm=False)]
        return [Answer.of(tokenizer, reply.token_ids, reply.finish_reason == "length") for reply in done]

    return Answerer(_answer, tokenizer, model.llm_engine.model_config.max_model_len, sys.maxsize)


@contextmanager
def _own_device() -> Iterator[None]:
    """Show the engine's processes, which inherit this environment, the GPU that torchrun means for this one alone."""
    variable = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(variable)
    # Unlike is_available(), counting leaves CUDA usable in a forked process.
    if "LOCAL_RANK" in os.environ and (count := torch.cuda.device_count()):
        devices = before.split(",") if before else [str(index) for index in range(count)]
        os.environ[variable] = devices[int(os.environ["LOCAL_RANK"]) % len(devices)]
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


def _end_by_exit() -> None:
    """End vLLM's processes at SIGTERM too, which torchrun and schedulers send: else they live on and hold the GPU."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
