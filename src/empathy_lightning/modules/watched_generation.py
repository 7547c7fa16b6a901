"""What a language model writes, told as it is written: each step's tokens with the states that chose them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

Step = Callable[[list[int], Tensor], Sequence[bool]]
"""Is told of each step the new tokens (B,) and the last states (B, D) from which they were chosen.

It says which replies end here. What it is told of a reply after its end, until all have ended, means nothing.
"""


class WatchedGeneration(StoppingCriteria):
    """Watches one call of transformers' ``generate``: keeps the states, tells a step, ends replies.

    Use it as a context around the call, and as one of its stopping criteria where there is a step.

    Args:
        decoder: The model without its head, whose output has ``last_hidden_state``.
        stops: Tokens that end a reply.
        step: Is told what is written; None where nobody listens.
    """

    def __init__(self, decoder: Any, stops: Collection[int], step: Step | None = None) -> None:
        self.decoder = decoder
        self.stops = stops
        self.step = step
        self.states: list[Tensor] = []
        self.lengths: list[int] = []
        self.ended: list[bool] = []

    def __enter__(self) -> WatchedGeneration:
        """Begin to keep the states."""
        writer = get_ident()

        def _keep(*called: Any) -> None:
            # Other threads may be writing with the same model.
            if get_ident() == writer:
                self.states.append(called[-1].last_hidden_state[:, -1])

        self._hook = self.decoder.register_forward_hook(_keep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the model as it was."""
        self._hook.remove()

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Tell the step of the newest tokens; which replies have ended, shape (B,)."""
        assert self.step is not None
        tokens: list[int] = input_ids[:, -1].tolist()
        if not self.ended:
            self.lengths, self.ended = [0] * len(tokens), [False] * len(tokens)
        ends = self.step(tokens, self.states[-1])
        for row, (token, ends_here) in enumerate(zip(tokens, ends, strict=True)):
            if not self.ended[row]:
                self.lengths[row] += 1
                self.ended[row] = ends_here or token in self.stops
        return torch.tensor(self.ended, device=input_ids.device)

    def replies(self, tokens: Tensor) -> list[tuple[list[int], Tensor]]:
        """Tokens of each reply up to its end, and their states (T, D), of all that was generated (B, T)."""
        replies = []
        for number, (row, states) in enumerate(zip(tokens.tolist(), torch.stack(self.states, 1), strict=True)):
            end = self._end(row)
            # Of a step's own ends the tokens tell nothing.
            if self.lengths:
                end = min(end, self.lengths[number])
            replies.append((row[:end], states[:end]))
        return replies

    def _end(self, row: Sequence[int]) -> int:
        """How many tokens there are up to the first that ends a reply, itself included."""
        for at, token in enumerate(row, 1):
            if token in self.stops:
                return at
        return len(row)
