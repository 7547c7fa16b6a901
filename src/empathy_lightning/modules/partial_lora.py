"""Low-rank updates of a frozen language model that act where speech is heard, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from empathy_lightning.modules.frozen_head import decoder_of

_GROUPS = {
    "attention_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.o_proj",),
    "gate": ("mlp.gate_proj",),
    "up": ("mlp.up_proj",),
    "down": ("mlp.down_proj",),
}
"""Linear layers that one update covers: query, key and value share their first factor, as in Qwen-1."""

# Both travel with the call, per thread and per task: the first from the caller to the model, the second
# from a layer's attention to its linear layers. In between the positions are an argument of the layers.
_CALL: ContextVar[tuple[PartialLora, Tensor] | None] = ContextVar("partial_lora_call", default=None)
_LAYER: ContextVar[tuple[PartialLora, Tensor] | None] = ContextVar("partial_lora_layer", default=None)


def _layers(model: Any) -> Any:
    """The decoder's layers, where each has all that the updates cover."""
    layers = getattr(decoder_of(model), "layers", [])
    needed: set[str] = set()
    for names in _GROUPS.values():
        needed.update(names)
    if not layers or not all(needed <= dict(layer.named_modules()).keys() for layer in layers):
        raise ValueError(f"partial LoRA needs layers like Llama's or Qwen2's, not those of {type(model).__name__}")
    return layers


def _check_rows(speech: Tensor, rows: int) -> None:
    """Refuse speech of other rows than those of a call."""
    if rows % len(speech):
        raise ValueError(f"partial LoRA was told the speech of {len(speech)} rows, but the call has {rows}")


class LowRankUpdate(nn.Module):
    """The product of two factors, zero at first: ``scale * B A dropout(x)``.

    Args:
        input_size: Width of the input.
        output_size: Width of the output.
        rank: Width between the factors.
    """

    def __init__(self, input_size: int, output_size: int, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(rank, input_size))
        self.lora_B = nn.Parameter(torch.zeros(output_size, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))


class PartialLora(nn.Module):
    """Partial LoRA, as BLSP-Emo and RE-LLM use it: ``y = W x + b + m (alpha / rank) B A dropout(x)``.

    ``m`` is 1 at speech positions and 0 elsewhere, so that text in, text out stays the frozen model's.
    :meth:`attach` hangs the updates on a language model, whose own weights and keys stay as they are;
    outside :meth:`at` the model is what it was. The positions travel with each call: nothing is
    stored in the modules, so calls may interleave over threads, batches, beams and several updates.

    Args:
        hidden_size: Width of the language model.
        intermediate_size: Width inside its feed-forward layers.
        num_layers: Its decoder layers.
        attention_sizes: Widths of the queries and of the keys or values; None is hidden_size for both.
        rank: Rank of the updates (BLSP-Emo: 16).
        alpha: Scale of the updates times the rank (BLSP-Emo: 16).
        dropout: Dropout of their input (BLSP-Emo: 0.05).
        scope: ``audio`` acts on speech positions, ``text`` on all others, replies included, ``global`` on all.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        num_layers: int,
        attention_sizes: tuple[int, int] | None = None,
        rank: int = 16,
        alpha: float = 16.0,
        dropout: float = 0.05,
        scope: Literal["audio", "text", "global"] = "audio",
    ) -> None:
        super().__init__()
        if scope not in ("audio", "text", "global"):
            raise ValueError(f"scope must be audio, text or global, not {scope!r}")
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_layers = num_layers
        self.attention_sizes = attention_sizes
        self.rank = rank
        self.alpha = alpha
        self.dropout = dropout
        self.scope = scope
        query, key = attention_sizes or (hidden_size, hidden_size)
        self._outputs = {
            "attention_in": (query, key, key),
            "attention_out": (hidden_size,),
            "gate": (intermediate_size,),
            "up": (intermediate_size,),
            "down": (hidden_size,),
        }
        self._inputs = dict.fromkeys(_GROUPS, hidden_size) | {"attention_out": query, "down": intermediate_size}
        self.layers = nn.ModuleList(self._updates() for _ in range(num_layers))

    def _updates(self) -> nn.ModuleDict:
        """The updates of one layer, by the names of their groups."""
        updates = nn.ModuleDict()
        for name in _GROUPS:
            updates[name] = LowRankUpdate(self._inputs[name], sum(self._outputs[name]), self.rank)
        return updates

    @classmethod
    def for_model(cls, model: Any, rank: int = 16, alpha: float = 16.0, dropout: float = 0.05) -> PartialLora:
        """Updates of the sizes of a transformers causal language model with Llama's or Qwen2's layers."""
        config, attention = model.config, _layers(model)[0].self_attn
        sizes = (attention.q_proj.out_features, attention.k_proj.out_features)
        return cls(config.hidden_size, config.intermediate_size, config.num_hidden_layers, sizes, rank, alpha, dropout)

    def attach(self, model: Any) -> list[Any]:
        """Hang the updates on a transformers causal language model.

        Returns:
            Handles whose ``remove()`` takes them off again.

        Raises:
            ValueError: If a layer is missing, is of another kind or has another size.
        """
        layers = _layers(model)
        if len(layers) != self.num_layers:
            raise ValueError(f"partial LoRA of {self.num_layers} layers for a model of {len(layers)}")
        handles = [decoder_of(model).register_forward_pre_hook(self._enter_model, with_kwargs=True)]
        for layer, updates in zip(layers, self.layers, strict=True):
            # What an attention that raised has left is gone before the next call of its layer.
            handles.append(layer.register_forward_pre_hook(self._leave))
            handles.append(layer.self_attn.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(layer.mlp.register_forward_hook(self._leave, always_call=True))
            assert isinstance(updates, nn.ModuleDict)
            for group, update in updates.items():
                assert isinstance(update, LowRankUpdate)
                start = 0
                for name, size in zip(_GROUPS[group], self._outputs[group], strict=True):
                    linear = layer.get_submodule(name)
                    # The layer's own word, since quantised weights are packed.
                    shape = (linear.out_features, linear.in_features)
                    if shape != (size, update.lora_A.shape[1]):
                        raise ValueError(f"partial LoRA does not fit {name} of shape {shape}")
                    handles.append(linear.register_forward_hook(partial(self._add, update, start, start + size)))
                    start += size
        return handles

    @contextmanager
    def at(self, speech: Tensor) -> Iterator[None]:
        """Let the language model's calls inside see the updates.

        Args:
            speech: Shape (B, T), True at speech positions counted from the start of the sequence, padding
                included; later positions, such as those of a reply, are not speech. Rows that beam
                search has multiplied are recognised.
        """
        token = _CALL.set((self, speech))
        try:
            yield
        finally:
            _CALL.reset(token)

    def _enter_model(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = _CALL.get()
        if call is None or call[0] is not self:
            return None
        tokens = kwargs.get("inputs_embeds")
        if tokens is None:
            tokens = args[0] if args else kwargs["input_ids"]
        cache = kwargs.get("past_key_values")
        heard: Tensor | None
        if packing := kwargs.get("packing"):
            _check_rows(call[1], len(packing.queries))
            heard = self._scoped(packing.of_rows(call[1]))
        else:
            past = 0 if cache is None else int(cache.get_seq_length())
            heard = self._window(call[1], past, *tokens.shape[:2])
        # As an argument of the layers it is there again when gradient checkpointing runs them again.
        return None if heard is None else (args, {**kwargs, self._argument: heard})

    @property
    def _argument(self) -> str:
        return f"partial_lora_{id(self)}"

    def _window(self, speech: Tensor, past: int, rows: int, width: int) -> Tensor | None:
        """Where the updates act in the part of the sequence that a call computes, shape (rows, width, 1)."""
        known = speech[:, past : past + width]
        if self.scope == "audio" and known.shape[1] == 0:
            return None
        if rows % len(speech):
            # One row may stand for all where none has speech, as before the first slot of a prompt.
            if self.scope == "audio" and not known.any():
                return None
            _check_rows(speech, rows)
        acts = nn.functional.pad(known, (0, width - known.shape[1]))
        return self._scoped(acts.repeat_interleave(rows // len(speech), 0))

    def _scoped(self, speech: Tensor) -> Tensor:
        """Where the updates act, shape (B, T, 1), by where speech is, shape (B, T)."""
        acts = speech
        if self.scope == "global":
            acts = torch.ones_like(speech)
        elif self.scope == "text":
            acts = ~speech
        return acts[..., None]

    def _enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        heard = kwargs.get(self._argument)
        if heard is None:
            return None
        _LAYER.set((self, heard))
        return args, {name: value for name, value in kwargs.items() if name != self._argument}

    def _leave(self, *_: Any) -> None:
        _LAYER.set(None)

    def _add(self, update: LowRankUpdate, start: int, stop: int, _: nn.Module, args: Any, output: Tensor) -> Any:
        heard = _LAYER.get()
        if heard is None or heard[0] is not self:
            return None
        inputs = nn.functional.dropout(args[0].to(update.lora_A.dtype), self.dropout, self.training)
        change = (inputs @ update.lora_A.T) @ update.lora_B[start:stop].T
        return output + (heard[1] * (self.alpha / self.rank) * change).to(output.dtype)
