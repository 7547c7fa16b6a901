"""From the last hidden states of a frozen causal language model to logits and losses, as the model itself goes on."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.modeling_outputs import BaseModelOutputWithPast

from empathy_lightning.errors import InputError


class _Given(nn.Module):
    """Stands where the decoder stands, and gives hidden states that are there already."""

    def __init__(self, decoder: nn.Module, states: Tensor) -> None:
        super().__init__()
        # Beside the modules, of which it is none.
        self.__dict__["instead_of"] = decoder
        self.output = _Output(last_hidden_state=states)

    def __getattr__(self, name: str) -> Any:
        # Some models call the decoder inside their base model, or read numbers from it.
        return self if name == "decoder" else getattr(self.__dict__["instead_of"], name)

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPast:
        """The hidden states, whatever is asked."""
        return self.output


class _Output(BaseModelOutputWithPast):
    """Has none of what single families return besides: router logits, states of images, and the like."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def decoder_of(model: Any) -> Any:
    """The part of a transformers causal language model that makes the last hidden states.

    Raises:
        InputError: If there is none.
    """
    return getattr(model, _decoder_name(model))


def _decoder_name(model: Any) -> str:
    # The name by which transformers loads a base model is not always that of the attribute.
    for name in (getattr(model, "base_model_prefix", ""), "model"):
        if isinstance(getattr(model, name, None), nn.Module):
            return str(name)
    raise InputError(f"{type(model).__name__} has no decoder apart from its head: give another language model")


def logits_of(model: Any, states: Tensor) -> Tensor:
    """What a model makes of its last hidden states: head and bias, and any scale or soft cap before or after.

    Its own ``forward`` runs, around states that are given instead of a decoder; nothing is changed in the model.

    Args:
        model: A causal language model of transformers.
        states: Shape (N, D).

    Returns:
        Shape (N, V).
    """
    around = copy(model)
    around._modules = {**model._modules, _decoder_name(model): _Given(decoder_of(model), states[None])}
    # That of the class, since a wrapped forward of the instance would still see the decoder.
    logits: Tensor = type(model).forward(around, inputs_embeds=states[None], return_dict=True).logits
    return logits[0]


class _SummedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of a frozen head's logits, summed; the gradient is made beside the loss, chunk by chunk.

    Neither the logits nor a second pass through the head is then needed in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, logits_at: Callable[[Tensor], Tensor], chunk_size: int
    ) -> Tensor:
        """Sum over the chunks, and keep the states' gradient."""
        total = torch.zeros((), device=states.device)
        gradients: list[Tensor] = []
        for chunk, target in zip(states.split(chunk_size), targets.split(chunk_size), strict=True):
            chunk = chunk.detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                logits = logits_at(chunk)
            scores = logits.detach().float().log_softmax(-1)
            total += nn.functional.nll_loss(scores, target, reduction="sum")
            if ctx.needs_input_grad[0]:
                # The gradient of a cross-entropy: the probabilities, less 1 at the target.
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


def summed_cross_entropy(model: Any, states: Tensor, targets: Tensor, chunk_size: int) -> Tensor:
    """Cross-entropy of targets, summed; the head runs once and gets no gradient of its own.

    Args:
        model: A causal language model of transformers.
        states: Last hidden states that predict the targets, shape (N, D).
        targets: Token ids, shape (N,).
        chunk_size: States whose logits live at a time.
    """

    def _logits_at(chunk: Tensor) -> Tensor:
        return logits_of(model, chunk)

    total: Tensor = _SummedCrossEntropy.apply(states, targets, _logits_at, chunk_size)
    return total
