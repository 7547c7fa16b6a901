"""Frozen causal language model: embeddings in, response loss or reply out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, StoppingCriteriaList

from empathy_lightning.modules.chat_format import end_token_id
from empathy_lightning.modules.context_cache import ContextCache
from empathy_lightning.modules.frozen_head import decoder_of, logits_of, summed_cross_entropy
from empathy_lightning.modules.gradient_checkpointing import checkpoint_blocks
from empathy_lightning.modules.model_check import check, keeps_all_keys, packs_rows, takes_positions
from empathy_lightning.modules.packed_rows import NAME, states_of_rows, worthwhile
from empathy_lightning.modules.pretrained import commit_of, dtype_named, load, load_tokenizer
from empathy_lightning.modules.quantization import quantization_config
from empathy_lightning.modules.sampling import SeededDraw
from empathy_lightning.modules.speech_encoder import freeze, length_mask
from empathy_lightning.modules.text_model import text_model
from empathy_lightning.modules.watched_generation import Step, WatchedGeneration

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
    side = "left" if left else "right"
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side=side)
    mask = length_mask(lengths, padded.shape[1])
    if left:
        mask = mask.flip(1)
    return padded, mask


class LanguageModel(nn.Module):
    """A transformers causal language model that stays as it is.

    Args:
        model: For example ``Qwen2ForCausalLM`` or ``LlamaForCausalLM``.
        tokenizer: Its tokenizer, with a chat template.

    Raises:
        ValueError: If embeddings are not to the model what the same tokens are (:mod:`.model_check`).
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.hidden_size: int = model.get_input_embeddings().weight.shape[-1]
        self.source: dict[str, Any] | None = None
        self.checkpointed = False
        self.has_plain_cache = self.packs_rows = False
        freeze(self)
        check(self)
        self.takes_positions = takes_positions(self)
        self.has_plain_cache = self.takes_positions and keeps_all_keys(self)
        self.packs_rows = self.has_plain_cache and packs_rows(self)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        revision: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32",
        quantization: Literal["bitsandbytes-4bit", "torchao-int8"] | None = None,
        gradient_checkpointing: bool = False,
    ) -> LanguageModel:
        """Load a frozen language model.

        Args:
            name_or_path: Folder or model id, for example ``Qwen/Qwen2.5-7B-Instruct``.
            revision: Commit of the model id.
            dtype: Precision of the weights, for example ``bfloat16``; of the arithmetic where they are quantised.
                ``auto`` takes bfloat16 on a GPU or a processor with instructions for it, else float32.
            quantization: Store the weights of the blocks in fewer bits; needs the extra of that package.
            gradient_checkpointing: Keep only each block's input for the backward pass and compute the block again
                there: less memory, about a third more time.

        Raises:
            PretrainedError: If the files cannot be used, or the tokenizer has no chat template.
            ModuleNotFoundError: If a package that quantises is not installed.
            ValueError: If the quantisation is not known.
        """
        options: dict[str, Any] = {"dtype": dtype_named(dtype)}
        if quantization is not None:
            options["quantization_config"] = quantization_config(quantization, options["dtype"])
        tokenizer = load_tokenizer(name_or_path, revision)
        model = text_model(load(AutoModelForCausalLM, name_or_path, revision, **options))
        if gradient_checkpointing:
            checkpoint_blocks(model)
        language_model = cls(model, tokenizer)
        language_model.checkpointed = gradient_checkpointing
        language_model.source = {
            "name_or_path": name_or_path,
            "revision": commit_of(name_or_path, revision),
            "dtype": str(options["dtype"]).removeprefix("torch."),
        }
        if quantization is not None:
            language_model.source["quantization"] = quantization
        return language_model

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def decoder(self) -> Any:
        """The model without its head: embeddings to last hidden states."""
        return decoder_of(self.model)

    def logits(self, states: Tensor) -> Tensor:
        """The model's own logits (N, V) of last hidden states (N, D), with all that it does after its head."""
        return logits_of(self.model, states)

    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Embeddings (T, D) of token ids."""
        ids = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        return self.model.get_input_embeddings()(ids)

    def forward(
        self,
        embeddings: Tensor,
        mask: Tensor,
        prefix: Sequence[int] = (),
        still: Sequence[int] | None = None,
    ) -> Tensor:
        """Last hidden states after the final norm; rows of different lengths are computed without their padding.

        Args:
            embeddings: Right-padded inputs, shape (B, T, D).
            mask: Shape (B, T), True where valid.
            prefix: Token ids. Where all rows begin with them, their positions are computed once, without
                gradient, and attended to by all rows; the result is the same.
            still: How many of each row's first positions need no gradient: no activations are kept of them and
                nothing is computed backwards; the result and the other gradients are the same. Where the blocks
                are sharded (FSDP2), prefix and still save nothing.

        Returns:
            Shape (B, T, D), without meaning past each length.
        """
        embeddings = embeddings.to(self.model.dtype)
        if hasattr(self.decoder, "unshard"):  # FSDP2's mark on a module
            # Each run gathers the blocks from all processes, which therefore make the same runs, backwards too,
            # whatever their batches hold.
            if torch.is_grad_enabled() and not embeddings.requires_grad:
                embeddings = embeddings.detach().requires_grad_()
            return self._hidden(embeddings, mask)
        # Parameters that train inside the model would need the gradient of every position.
        if not self.has_plain_cache or any(parameter.requires_grad for parameter in self.parameters()):
            return self._hidden(embeddings, mask)
        cache = ContextCache(config=self.model.config)
        done = self._shared(embeddings, mask, prefix, cache)
        first = done.shape[1]
        backwards = torch.is_grad_enabled() and embeddings.requires_grad
        if still is None or not backwards or max(still) <= first:
            still = [first] * len(embeddings)
        if self.packs_rows and worthwhile(mask):
            return states_of_rows(self.decoder, embeddings, mask, done[0], still, cache)
        last = max(still)
        if last == first:
            after = self._hidden(embeddings[:, first:], mask, cache if first else None)
            return torch.cat([done, after], 1)
        with torch.no_grad():
            lead = self._hidden(embeddings[:, first:last], mask[:, :last], cache)
        return self._after(embeddings, mask, torch.cat([done, lead], 1), still, cache)

    def _shared(self, embeddings: Tensor, mask: Tensor, prefix: Sequence[int], cache: ContextCache) -> Tensor:
        """Hidden states (B, P, D) of the prefix, with which all rows begin; without any where they do not."""
        count, length = len(embeddings), len(prefix)
        # A position has to be left behind it.
        if not 0 < length < embeddings.shape[1]:
            return embeddings[:, :0]
        if not torch.equal(embeddings[:, :length], self.embed(prefix).expand(count, -1, -1)):
            return embeddings[:, :0]
        with torch.no_grad():
            return self._hidden(embeddings[:1, :length], mask[:1, :length], cache).expand(count, -1, -1)

    def _after(
        self, embeddings: Tensor, mask: Tensor, done: Tensor, still: Sequence[int], cache: ContextCache
    ) -> Tensor:
        """Hidden states where each row goes on, with gradient, after its own number of positions in the cache."""
        start = torch.tensor(still, device=mask.device)
        lengths = mask.sum(1) - start
        valid = length_mask(lengths, int(lengths.max()))
        positions = (start[:, None] + torch.arange(valid.shape[1], device=mask.device)).clamp(max=mask.shape[1] - 1)
        rows = torch.arange(len(mask), device=mask.device)[:, None].expand_as(positions)
        seen = torch.cat([length_mask(start, done.shape[1]), valid], 1)
        output = self.decoder(
            inputs_embeds=embeddings[rows, positions],
            attention_mask=seen.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        hidden = nn.functional.pad(done, (0, 0, 0, mask.shape[1] - done.shape[1]))
        return hidden.index_put((rows[valid], positions[valid]), output.last_hidden_state[valid])

    def _hidden(self, embeddings: Tensor, mask: Tensor, cache: ContextCache | None = None) -> Tensor:
        # Padding on the right is out of sight of causal attention, and the fused kernels are best without a mask.
        fused = self.decoder.config._attn_implementation in ("sdpa", NAME)
        output = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=None if fused else mask.long(),
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

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
        return summed_cross_entropy(self.model, states, targets, chunk_size) / max(1, len(targets))

    @property
    def stop_ids(self) -> set[int]:
        """Tokens that end a reply: the template's and the tokenizer's, and those of the model's generation config."""
        own = self.model.generation_config.eos_token_id
        stops = [end_token_id(self.tokenizer), self.tokenizer.eos_token_id]
        stops += [own] if isinstance(own, int) else own or []
        return {stop for stop in stops if stop is not None}

    @torch.no_grad()
    def generate(
        self,
        embeddings: Tensor,
        mask: Tensor,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        top_p: float = 1.0,
        step: Step | None = None,
    ) -> list[tuple[list[int], Tensor]]:
        """Continue prompts given as embeddings; several threads may do so at once.

        Args:
            embeddings: Left-padded prompts, shape (B, T, D).
            mask: Shape (B, T), True where valid.
            max_new_tokens: Longest reply.
            temperature: 0 takes the likeliest token; above it, tokens are drawn.
            seed: Seed of the draws of each reply, or one for each; the caller's random state is left as it was.
            top_p: Draw from the likeliest tokens whose probabilities reach this sum.
            step: Is told what is written as it is written, and may end replies.

        Returns:
            Token ids of each reply, up to and including the first of :attr:`stop_ids` where one was reached, and the
            last hidden states (T, D) from which they were chosen.
        """
        stops = self.stop_ids
        draws = [SeededDraw(temperature, top_p, seed)] if temperature > 0 else []
        # Some models call the decoder inside their base model.
        decoder = getattr(self.decoder, "decoder", self.decoder)
        with WatchedGeneration(decoder, stops, step) as watched:
            tokens = self.model.generate(
                inputs_embeds=embeddings.to(self.model.dtype),
                attention_mask=mask.long(),
                max_new_tokens=max_new_tokens,
                pad_token_id=self._padding(stops),
                eos_token_id=sorted(stops) or None,
                # None of the model's own ways to choose; a draw is in the scores already.
                repetition_penalty=1.0,
                do_sample=False,
                temperature=None,
                top_k=None,
                top_p=None,
                logits_processor=draws,
                stopping_criteria=StoppingCriteriaList([] if step is None else [watched]),
            )
        return watched.replies(tokens)

    def _padding(self, stops: set[int]) -> int:
        """The token after a reply's end in a batch; which one does not matter."""
        own = self.tokenizer.pad_token_id
        return min(stops, default=0) if own is None else int(own)
