"""A judge on this machine: any causal language model of transformers, from a folder or by its id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.judges.judge import Answer, Pace, Question, Sampling

if TYPE_CHECKING:
    from empathy_lightning.modules.language_model import LanguageModel

# What loads a model takes seconds to import, and judges behind an address do without it.


class LocalJudge:
    """Reads questions of words alone, in batches; what it thinks before its answer is left out.

    Args:
        model: Folder or model id of a chat model.
        batch_size: Questions that are answered together.
        dtype: Precision of its weights.

    Raises:
        InputError: If there is no such model.
    """

    hears = False

    def __init__(self, model: str, batch_size: int = 8, dtype: str = "float32") -> None:
        self.model = model
        self.dtype = dtype
        self.pace = Pace(batch_size=batch_size, attempts=1)
        from empathy_lightning.preparation.identity import model_identity

        self._content = model_identity(model)

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Content of the model and settings; it knows no ``top_k``, and without a seed its draws have seed 0."""
        settings = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        if sampling.temperature > 0:
            settings |= {"top_p": sampling.top_p or 1.0, "seed": sampling.seed or 0}
        return {"interface": "local", "model": self._content, "dtype": self.dtype, **settings}

    @cached_property
    def _loaded(self) -> LanguageModel:
        """The model, which is not needed where all answers are there."""
        from empathy_lightning.preparation.engines import load_language_model

        return load_language_model(self.model, self.dtype)

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer a batch whose questions have one sampling; see :class:`.judge.Judge`.

        Raises:
            InputError: If a question is longer than the model reads.
        """
        import torch

        from empathy_lightning.modules.language_model import pack
        from empathy_lightning.prompts import Prompt

        model, sampling = self._loaded, questions[0].sampling
        prompts = [Prompt("{speech}", q.system).text_ids(model.tokenizer, speech=q.text) for q in questions]
        self._check_lengths(prompts, sampling.max_tokens)
        with torch.no_grad():
            replies = model.generate(
                *pack([model.embed(ids) for ids in prompts], left=True),
                sampling.max_tokens,
                temperature=sampling.temperature,
                seed=[(sampling.seed or 0) + question.number for question in questions],
                top_p=sampling.top_p or 1.0,
            )
        return [self._answer(ids) for ids, _ in replies]

    def _answer(self, ids: list[int]) -> Answer:
        from empathy_lightning.thinking import is_only_thinking, reply_text

        tokenizer = self._loaded.tokenizer
        cut = self._loaded.stop_ids.isdisjoint(ids)
        text = "" if is_only_thinking(tokenizer, ids) else reply_text(tokenizer, ids)
        return Answer(text, cut=cut, served=self._content)

    def _check_lengths(self, prompts: list[list[int]], max_tokens: int) -> None:
        positions = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", None)
        longest = max(map(len, prompts)) + max_tokens
        if positions is not None and longest > positions:
            raise InputError(
                f"a question and its answer have up to {longest} tokens, and {self.model} reads {positions}: "
                "give another judge, or a criterion with a shorter max_tokens"
            )
