"""Joining the language model's states with the tokens that they predicted, for the speech decoder to read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Fusion(ABC):
    """How a row is made of a projected state and the embedding of its token; a subclass says how they join.

    Args:
        projection_size: Width inside the projection of the states; None for twice their own, 0 for a single linear
            layer.
    """

    projection_size: int | None = None

    @abstractmethod
    def build(self, input_size: int, hidden_size: int) -> nn.Module:
        """A module with ``forward(states, embedded)``, from (T, input_size) and (T, hidden_size) to rows like those."""

    def projection(self, input_size: int, hidden_size: int) -> nn.Module:
        """The projection of the states."""
        inner = 2 * input_size if self.projection_size is None else self.projection_size
        if not inner:
            return nn.Linear(input_size, hidden_size)
        return nn.Sequential(nn.Linear(input_size, inner), nn.ReLU(), nn.Linear(inner, hidden_size))


@dataclass(frozen=True)
class GatedFusion(Fusion):
    """g * state + (1 - g) * embedding with g = sigmoid(W [state; embedding]) (LLaMA-Omni2, FreezeEmpath)."""

    def build(self, input_size: int, hidden_size: int) -> nn.Module:
        """See :class:`Fusion`."""
        return _Fused(self.projection(input_size, hidden_size), hidden_size, gated=True)


@dataclass(frozen=True)
class SummedFusion(Fusion):
    """State and embedding, added: an ablation of LLaMA-Omni2."""

    def build(self, input_size: int, hidden_size: int) -> nn.Module:
        """See :class:`Fusion`."""
        return _Fused(self.projection(input_size, hidden_size), hidden_size, gated=False)


@dataclass(frozen=True)
class StatesAlone(Fusion):
    """The state without its token: an ablation of LLaMA-Omni2."""

    def build(self, input_size: int, hidden_size: int) -> nn.Module:
        """See :class:`Fusion`."""
        return _Projected(self.projection(input_size, hidden_size))


class _Projected(nn.Module):
    def __init__(self, projection: nn.Module) -> None:
        super().__init__()
        self.input_proj = projection

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        """Rows (T, hidden_size) of states (T, input_size); the tokens' embeddings are not read."""
        projected: Tensor = self.input_proj(states)
        return projected


class _Fused(_Projected):
    def __init__(self, projection: nn.Module, hidden_size: int, gated: bool) -> None:
        super().__init__(projection)
        self.gate = nn.Sequential(nn.Linear(2 * hidden_size, hidden_size), nn.Sigmoid()) if gated else None

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        """Rows (T, hidden_size) of states (T, input_size) and embeddings (T, hidden_size)."""
        projected: Tensor = self.input_proj(states)
        if self.gate is None:
            return projected + embedded
        gate: Tensor = self.gate(torch.cat([projected, embedded], -1))
        return gate * projected + (1 - gate) * embedded
