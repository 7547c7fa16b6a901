"""Frozen causal language model: embeddings in, response loss or reply out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, DynamicCache, TorchAoConfig
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from empathy_lightning.modules.pretrained import commit_of, locate
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


class _Context(DynamicCache):
    """Keys and values of positions without gradient.

    Without gradient they are stored, a single row's for all rows that follow; with gradient
    they are only read, so that a block may be computed twice.
    """

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """Keys and values of a layer with those before them."""
        layer: Any = self.layers[layer_idx]
        keys, values = key_states, value_states
        if layer.is_initialized:
            keys = torch.cat([layer.keys.expand(len(keys), -1, -1, -1), keys], -2)
            values = torch.cat([layer.values.expand(len(values), -1, -1, -1), values], -2)
        if not torch.is_grad_enabled():
            layer.lazy_initialization(key_states, value_states)
            layer.keys, layer.values = keys, values
        return keys, values


class _SummedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a frozen head's logits, summed; the gradient is made beside the loss, chunk by chunk.

    Neither the logits nor a second pass through the head is then needed in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, targets: Tensor, head: nn.Module, chunk_size: int) -> Tensor:
        """Sum over the chunks, and keep the states' gradient."""
        total = torch.zeros((), device=states.device)
        gradients: list[Tensor] = []
        for chunk, target in zip(states.split(chunk_size), targets.split(chunk_size), strict=True):
            chunk = chunk.detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                logits = head(chunk)
            scores = logits.detach().float().log_softmax(-1)
            total += nn.functional.nll_loss(scores, target, reduction="sum")
            if ctx.needs_input_grad[0]:
                error = scores.exp_()
                error[torch.arange(len(target), device=target.device), target] -= 1
                gradients += torch.autograd.grad(logits, chunk, error.to(logits.dtype))
            del logits, scores
        ctx.save_for_backward(torch.cat(gradients) if gradients else torch.zeros_like(states))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient made beside the logits, scaled."""
        (to_states,) = ctx.saved_tensors
        return gradient.to(to_states.dtype) * to_states, None, None, None


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
        # Other kinds of layers (sliding windows, recurrent states) keep less than all keys and values.
        self.has_plain_cache = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
        freeze(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        quantization: Literal["bitsandbytes-4bit", "torchao-int8"] | None = None,
        gradient_checkpointing: bool = False,
    ) -> LanguageModel:
        """Load a frozen language model.

        Args:
            name_or_path: Folder or model id, for example ``Qwen/Qwen2.5-7B-Instruct``.
            revision: Commit of the model id.
            dtype: Precision of the weights, for example ``bfloat16``; of the arithmetic where they are quantised.
            quantization: Store the weights of the blocks in fewer bits; needs the extra of that package.
            gradient_checkpointing: Keep only each block's input for the backward pass and compute the block again
                there: less memory, about a third more time.

        Raises:
            ModuleNotFoundError: If a package that quantises is not installed.
            ValueError: If the quantisation is not known.
        """
        folder = locate(name_or_path)
        options: dict[str, Any] = {"revision": revision, "dtype": getattr(torch, dtype)}
        if quantization is not None:
            options["quantization_config"] = _quantization_config(quantization, options["dtype"])
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(folder, **options)
        if gradient_checkpointing:
            checkpoint_blocks(model)
        language_model = cls(model, tokenizer)
        resolved = commit_of(name_or_path, revision)
        language_model.source = {"name_or_path": name_or_path, "revision": resolved, "dtype": dtype}
        if quantization is not None:
            language_model.source["quantization"] = quantization
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

    def forward(
        self,
        embeddings: Tensor,
        mask: Tensor,
        prefix: Sequence[int] = (),
        still: Sequence[int] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Last hidden states after the final norm.

        Args:
            embeddings: Right-padded inputs, shape (B, T, D).
            mask: Shape (B, T), True where valid.
            prefix: Token ids. Where all rows begin with them, their positions are computed once, without
                gradient, and attended to by all rows; the result is the same.
            still: How many of each row's first positions need no gradient: no activations are kept of them and
                nothing is computed backwards; the result and the other gradients are the same. Where the blocks
                are sharded (FSDP2), prefix and still save nothing.
            positions: Place of each embedding, shape (B, T), where they are not counted one after the other; prefix
                and still then save nothing.

        Returns:
            Shape (B, T, D), without meaning past each length.
        """
        embeddings = embeddings.to(self.model.dtype)
        if hasattr(self.model.model, "unshard"):  # FSDP2's mark on a module
            # Each run gathers the blocks from all processes, which therefore make the same runs, backwards too,
            # whatever their batches hold.
            if torch.is_grad_enabled() and not embeddings.requires_grad:
                embeddings = embeddings.detach().requires_grad_()
            return self._hidden(embeddings, mask, positions=positions)
        if positions is not None:
            return self._hidden(embeddings, mask, positions=positions)
        # Parameters that train inside the model would need the gradient of every position.
        if not self.has_plain_cache or any(parameter.requires_grad for parameter in self.parameters()):
            return self._hidden(embeddings, mask)
        cache, done = _Context(config=self.model.config), embeddings[:, :0]
        shared = len(prefix) if len(prefix) < embeddings.shape[1] else 0
        if shared and torch.equal(embeddings[:, :shared], self.embed(prefix).expand(len(embeddings), -1, -1)):
            with torch.no_grad():
                done = self._hidden(embeddings[:1, :shared], mask[:1, :shared], cache).expand(len(embeddings), -1, -1)
        backwards = torch.is_grad_enabled() and embeddings.requires_grad
        if still is None or not backwards or max(still) <= done.shape[1]:
            after = self._hidden(embeddings[:, done.shape[1] :], mask, cache if done.shape[1] else None)
            return torch.cat([done, after], 1)
        with torch.no_grad():
            lead = self._hidden(embeddings[:, done.shape[1] : max(still)], mask[:, : max(still)], cache)
        return self._after(embeddings, mask, torch.cat([done, lead], 1), still, cache)

    def _after(self, embeddings: Tensor, mask: Tensor, done: Tensor, still: Sequence[int], cache: _Context) -> Tensor:
        """Hidden states where each row goes on, with gradient, after its own number of positions in the cache."""
        start = torch.tensor(still, device=mask.device)
        lengths = mask.sum(1) - start
        valid = length_mask(lengths, int(lengths.max()))
        positions = (start[:, None] + torch.arange(valid.shape[1], device=mask.device)).clamp(max=mask.shape[1] - 1)
        rows = torch.arange(len(mask), device=mask.device)[:, None].expand_as(positions)
        seen = torch.cat([length_mask(start, done.shape[1]), valid], 1)
        output = self.model.model(
            inputs_embeds=embeddings[rows, positions],
            attention_mask=seen.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        hidden = nn.functional.pad(done, (0, 0, 0, mask.shape[1] - done.shape[1]))
        return hidden.index_put((rows[valid], positions[valid]), output.last_hidden_state[valid])

    def _hidden(
        self, embeddings: Tensor, mask: Tensor, cache: _Context | None = None, positions: Tensor | None = None
    ) -> Tensor:
        # Padding on the right is out of sight of causal attention, and the fused kernels are best without a mask.
        # Where positions jump, transformers would take rows without one for several sequences.
        fused = self.model.config._attn_implementation == "sdpa" and positions is None
        attention_mask = None if fused else mask.long()
        output = self.model.model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def response_loss(self, hidden: Tensor, labels: Tensor, chunk_size: int = 256) -> Tensor:
        """Mean cross-entropy of the labelled tokens, logits made at those positions only.

        The logits of one chunk live at a time and the gradient to the hidden states is
        made with them, so memory does not grow with the vocabulary times the sequence
        and the head runs once; the head gets no gradient of its own.

        Args:
            hidden: Last hidden states, shape (B, T, D).
            labels: Token ids, shape (B, T), -100 where there is no target; labels[t] is
                predicted from hidden[t - 1].
            chunk_size: Supervised positions per chunk.
        """
        supervised = labels[:, 1:] != IGNORE
        states, targets = hidden[:, :-1][supervised], labels[:, 1:][supervised]
        total: Tensor = _SummedCrossEntropy.apply(states, targets, self.model.lm_head, chunk_size)
        return total / max(1, len(targets))

    @property
    def stop_ids(self) -> set[int]:
        """Tokens that end a reply: the tokenizer's end of turn, and those of the model's own generation config."""
        own = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *([own] if isinstance(own, int) else own or [])}

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        mask: Tensor,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        top_p: float = 1.0,
        positions: Tensor | None = None,
    ) -> list[list[int]]:
        """Continue prompts given as embeddings.

        Args:
            embeddings: Left-padded prompts, shape (B, T, D).
            mask: Shape (B, T), True where valid.
            max_new_tokens: Longest reply.
            temperature: 0 takes the likeliest token; above it, tokens are drawn.
            seed: Seed of the draws of each reply, or one for each; the caller's random state is left as it was.
            top_p: Draw from the likeliest tokens whose probabilities reach this sum.
            positions: Place of each embedding, shape (B, T), where they are not counted one after the other.

        Returns:
            Token ids of each reply, up to and including the first of :attr:`stop_ids` where one was reached.
        """
        stops = self.stop_ids
        draws = [SeededDraw(temperature, top_p, seed)] if temperature > 0 else []
        tokens = self.model.generate(
            inputs_embeds=embeddings.to(self.model.dtype),
            attention_mask=mask.long(),
            position_ids=positions,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=sorted(stops),
            repetition_penalty=1.0,
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            logits_processor=draws,
        )
        rows: list[list[int]] = tokens.tolist()
        ends = [next((at + 1 for at, token in enumerate(row) if token in stops), len(row)) for row in rows]
        return [row[:end] for row, end in zip(rows, ends, strict=True)]


def checkpoint_blocks(model: nn.Module) -> None:
    """Let each block of a transformers model keep only its input for the backward pass.

    transformers' own switch works in training mode alone, in which a frozen model never is.
    """
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.forward = partial(_checkpointed, module.forward)


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _quantization_config(name: str, dtype: torch.dtype) -> Any:
    needed = {"bitsandbytes-4bit": ["bitsandbytes", "accelerate"], "torchao-int8": ["torchao"]}
    if name not in needed:
        raise ValueError(f"quantization {name} is not known: choose {' or '.join(needed)}")
    if any(find_spec(package) is None for package in needed[name]):
        extra = needed[name][0]
        raise ModuleNotFoundError(f"quantization {name} needs {extra}: pip install 'empathy_lightning[{extra}]'")
    if name == "bitsandbytes-4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return TorchAoConfig(import_module("torchao.quantization").Int8WeightOnlyConfig())
