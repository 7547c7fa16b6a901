"""The emotion of an utterance: one embedding for the prompt, a category and three ratings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from empathy_lightning.modules.emotion_heads import EmotionEstimate, EmotionHeads

Pooling = Literal["attention", "mean", "statistics"]
"""How frames become one vector."""


class AttentionPool(nn.Module):
    """Pool frames over time with learned queries.

    Args:
        hidden_size: Width of the frames.
        num_heads: Attention heads.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.latent_queries = nn.Parameter(torch.randn(1, hidden_size) * hidden_size**-0.5)
        self.multihead_attn = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Pool (B, T, D) under a mask (B, T), True where valid, to (B, D)."""
        queries = self.latent_queries.expand(len(frames), 1, -1)
        pooled, _ = self.multihead_attn(queries, frames, frames, key_padding_mask=~mask, need_weights=False)
        return pooled[:, 0]


class _WeightedSum(torch.autograd.Function):
    """Sum of layers (B, T, D) under weights (B, layers), in one buffer beside the layers in either direction."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *layers: Tensor) -> Tensor:
        """Add the layers up one after the other."""
        ctx.save_for_backward(weights, *layers)
        mixed = weights[:, 0, None, None] * layers[0]
        for index in range(1, len(layers)):
            mixed.addcmul_(weights[:, index, None, None], layers[index])
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the weights, and of layers that want one."""
        weights, *layers = ctx.saved_tensors
        flat = gradient.flatten(1)[:, None]
        products = [torch.bmm(flat, layer.flatten(1)[..., None].to(flat.dtype)) for layer in layers]
        to_layers: list[Tensor | None] = []
        for index, needed in enumerate(ctx.needs_input_grad[1:]):
            to_layers.append(weights[:, index, None, None] * gradient if needed else None)
        return torch.cat(products, 1)[..., 0], *to_layers


def masked_mean(frames: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, D) over the valid frames of (B, T, D); the mask (B, T) is True where valid."""
    valid = mask[..., None].to(frames.dtype)
    return (frames * valid).sum(1) / valid.sum(1)


def masked_statistics(frames: Tensor, mask: Tensor) -> Tensor:
    """Mean and standard deviation (B, 2 D) over the valid frames of (B, T, D) (Snyder et al. 2017)."""
    mean = masked_mean(frames, mask)
    variance = masked_mean((frames - mean[:, None]).square(), mask)
    # At 0 the square root has no gradient.
    return torch.cat([mean, (variance + 1e-5).sqrt()], dim=1)


class EmotionExtractor(nn.Module):
    """FreezeEmpath's emotion extractor: a gate over the encoder's layers, then attention pooling.

    Each layer's mean over time is scored; the softmax of the scores weighs the
    layers, per utterance. Two passes over the layers keep the memory at one extra
    buffer instead of a stack of all of them, in the backward pass too: where the
    encoder is frozen, only the weights get a gradient. Means and attention leave padding out.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the emotion embedding, the language model's.
        hidden_size: Width between the two projections (paper: 2048).
        gate_size: Width inside the layer gate (paper: 128).
        num_heads: Heads of the attention pooling (paper: 4).
        layers: ``"gate"`` weighs all layers; ``"last"`` takes the last one alone (the paper's ablation).
        pooling: ``"attention"``, or ``"mean"`` over the valid frames (the paper's ablation), or
            ``"statistics"``, their mean and standard deviation, which learn faster from few utterances.

    Raises:
        ValueError: If ``layers`` or ``pooling`` is something else.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 2048,
        gate_size: int = 128,
        num_heads: int = 4,
        layers: Literal["gate", "last"] = "gate",
        pooling: Pooling = "attention",
    ) -> None:
        super().__init__()
        if layers not in ("gate", "last") or pooling not in get_args(Pooling):
            raise ValueError(
                f"layers is gate or last, pooling is attention, mean or statistics; not {layers!r} and {pooling!r}"
            )
        self.layers = layers
        self.pooling = pooling
        if layers == "gate":
            self.gate_fc1 = nn.Linear(input_size, gate_size)
            self.gate_fc2 = nn.Linear(gate_size, 1)
        self.layernorm = nn.LayerNorm(input_size)
        if pooling == "attention":
            self.attn_pool = AttentionPool(input_size, num_heads)
        pooled_size = 2 * input_size if pooling == "statistics" else input_size
        self.linear1 = nn.Linear(pooled_size, hidden_size)
        self.linear2 = nn.Linear(hidden_size, output_size)

    def layer_weights(self, layers: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Weights of the layers per utterance, shape (B, layers), summing to one."""
        if self.layers == "last":
            last = torch.zeros(len(layers), device=mask.device, dtype=layers[0].dtype)
            last[-1] = 1
            return last.expand(len(mask), -1)
        share = (mask / mask.sum(1, keepdim=True))[:, None].to(layers[0].dtype)
        means = torch.cat([share @ layer for layer in layers], 1)
        return self.gate_fc2(nn.functional.relu(self.gate_fc1(means)))[..., 0].softmax(-1)

    def forward(self, layers: Sequence[Tensor], mask: Tensor, weights: Tensor | None = None) -> Tensor:
        """Extract the emotion embedding.

        Args:
            layers: Raw outputs of the encoder's blocks, each (B, T, input_size).
            mask: Shape (B, T), True where valid.
            weights: Of :meth:`layer_weights`, where they are there already.

        Returns:
            Shape (B, output_size).
        """
        mixed = layers[-1]
        if self.layers == "gate":
            weights = self.layer_weights(layers, mask) if weights is None else weights
            mixed = _WeightedSum.apply(weights, *layers)
        pooled = self._pool(self.layernorm(mixed), mask)
        embedding: Tensor = self.linear2(nn.functional.relu(self.linear1(pooled)))
        return embedding

    def _pool(self, frames: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "attention":
            pooled: Tensor = self.attn_pool(frames, mask)
            return pooled
        if self.pooling == "mean":
            return masked_mean(frames, mask)
        return masked_statistics(frames, mask)


class EmotionNuance(EmotionHeads):
    """Emotion embedding with auxiliary heads for categories and for arousal, valence, dominance.

    Joins FreezeEmpath's extractor and linear classifier with RE-LLM's dimensional
    head. Both heads read the embedding itself, so that what they learn reaches the
    language model.

    Args:
        input_size: Width of the encoder's frames.
        output_size: Width of the emotion embedding, the language model's.
        num_emotions: Number of categories.
        hidden_size: Width between the two projections (paper: 2048).
        gate_size: Width inside the layer gate (paper: 128).
        num_heads: Heads of the attention pooling (paper: 4).
        dropout: Dropout before both heads.
        rate_dimensions: Have the heads for arousal, valence and dominance. FreezeEmpath's released weights
            have none; without them the ratings are NaN.
        layers: ``"gate"`` or ``"last"``, see :class:`EmotionExtractor`.
        pooling: ``"attention"``, ``"mean"`` or ``"statistics"``, see :class:`EmotionExtractor`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_emotions: int = 5,
        hidden_size: int = 2048,
        gate_size: int = 128,
        num_heads: int = 4,
        dropout: float = 0.0,
        rate_dimensions: bool = True,
        layers: Literal["gate", "last"] = "gate",
        pooling: Pooling = "attention",
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size = hidden_size
        self.gate_size = gate_size
        self.num_heads = num_heads
        self.dropout = dropout
        self.layers = layers
        self.pooling = pooling
        self.extractor = EmotionExtractor(input_size, output_size, hidden_size, gate_size, num_heads, layers, pooling)
        self._add_heads(output_size, num_emotions, rate_dimensions)

    def forward(self, layers: Sequence[Tensor], mask: Tensor) -> EmotionEstimate:
        """Estimate the emotion of each utterance.

        Args:
            layers: Raw outputs of the encoder's blocks, each (B, T, input_size).
            mask: Shape (B, T), True where valid.
        """
        weights = self.extractor.layer_weights(layers, mask)
        embedding = self.extractor(layers, mask, weights)
        features = nn.functional.dropout(embedding, self.dropout, self.training)
        return self._estimate(embedding, features, weights.detach())
