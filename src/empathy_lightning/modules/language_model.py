"""Frozen causal language model: embeddings in, response loss or reply out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from empathy_lightning.modules.pretrained import locate
from empathy_lightning.modules.sampling import SeededDraw
from empathy_lightning.modules.speech_encoder import freeze, length_mask

IGNORE = -100
"""Label of positions without a target."""


def pack(rows: Sequence[Tensor], left: bool = False) -> tuple[Tensor, Tensor]:
    """Pad rows of embeddings at one end only, never between segments.

    Args:
        rows: Each (T_i, D).
        left: Pad on the left, as generation needs.

    Returns:
        Embeddings (B, T, D), zero where padded, and the mask (B, T), True where valid.
    """
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side="left" if left else "right")
    mask = length_mask(lengths, padded.shape[1])
    return padded, mask.flip(1) if left else mask


class LanguageModel(nn.Module):
    """A transformers causal language model that stays as it is.

    Args:
        model: For example ``Qwen2ForCausalLM`` or ``LlamaForCausalLM``.
        tokenizer: Its tokenizer, with a chat template.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.hidden_size: int = model.config.hidden_size
        self.source: dict[str, Any] | None = None
        freeze(self)

    @classmethod
    def from_pretrained(cls, name_or_path: str, revision: str | None = None, dtype: str = "float32") -> LanguageModel:
        """Load a frozen language model.

        Args:
            name_or_path: Folder or model id, for example ``Qwen/Qwen2.5-7B-Instruct``.
            revision: Commit of the model id.
            dtype: Precision of the weights, for example ``bfloat16``.
        """
        folder = locate(name_or_path)
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(folder, revision=revision, dtype=getattr(torch, dtype))
        language_model = cls(model, tokenizer)
        language_model.source = {"name_or_path": name_or_path, "revision": revision, "dtype": dtype}
        return language_model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Embeddings (T, D) of token ids."""
        ids = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        embeddings: Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states after the final norm.

        Args:
            embeddings: Right-padded inputs, shape (B, T, D).
            mask: Shape (B, T), True where valid.

        Returns:
            Shape (B, T, D).
        """
        output = self.model.model(
            inputs_embeds=embeddings.to(self.model.dtype), attention_mask=mask.long(), use_cache=False
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def response_loss(self, hidden: Tensor, labels: Tensor, chunk_size: int = 1024) -> Tensor:
        """Mean cross-entropy of the labelled tokens, logits made at those positions only.

        The logits of one chunk live at a time and are made again in the backward
        pass, so memory does not grow with the vocabulary times the sequence; the
        head gets no gradient of its own.

        Args:
            hidden: Last hidden states, shape (B, T, D).
            labels: Token ids, shape (B, T), -100 where there is no target; labels[t] is
                predicted from hidden[t - 1].
            chunk_size: Supervised positions per chunk.
        """
        supervised = labels[:, 1:] != IGNORE
        states, targets = hidden[:, :-1][supervised], labels[:, 1:][supervised]
        total = states.new_zeros((), dtype=torch.float32)
        for chunk, target in zip(states.split(chunk_size), targets.split(chunk_size), strict=True):
            total = total + checkpoint(self._cross_entropy, chunk, target, use_reentrant=False)
        return total / max(1, len(targets))

    def _cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        logits = self.model.lm_head(hidden).float()
        return nn.functional.cross_entropy(logits, targets, reduction="sum")

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        mask: Tensor,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        top_p: float = 1.0,
    ) -> list[list[int]]:
        """Continue prompts given as embeddings.

        Args:
            embeddings: Left-padded prompts, shape (B, T, D).
            mask: Shape (B, T), True where valid.
            max_new_tokens: Longest reply.
            temperature: 0 takes the likeliest token; above it, tokens are drawn.
            seed: Seed of the draws of each reply; the caller's random state is left as it was.
            top_p: Draw from the likeliest tokens whose probabilities reach this sum.

        Returns:
            Token ids of each reply, up to and including the end-of-turn token where one was reached.
        """
        stop = self.tokenizer.eos_token_id
        draws = [SeededDraw(temperature, top_p, seed)] if temperature > 0 else []
        tokens = self.model.generate(
            inputs_embeds=embeddings.to(self.model.dtype),
            attention_mask=mask.long(),
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=stop,
            repetition_penalty=1.0,
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            logits_processor=draws,
        )
        rows: list[list[int]] = tokens.tolist()
        return [row[: row.index(stop) + 1] if stop in row else row for row in rows]
