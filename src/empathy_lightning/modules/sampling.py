"""Draw tokens so that a reply never depends on what else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor


class SeededDraw(LogitsProcessor):
    """Scores whose largest one is a draw: each row has its own generator.

    Adds Gumbel noise to the scores, so that the greedy choice of the sum is a draw from
    their softmax (the Gumbel-max trick, Gumbel 1954). One draw per row out of one shared
    generator, which is what ``multinomial`` does, would change with the rows beside it.

    Args:
        temperature: Divides the scores; above 0.
        top_p: Draw from the likeliest tokens whose probabilities reach this sum, in 0..1.
        seed: Of every row's generator, or one for each row.
    """

    def __init__(self, temperature: float, top_p: float = 1.0, seed: int | Sequence[int] = 0) -> None:
        if temperature <= 0 or not 0 < top_p <= 1:
            raise ValueError(f"draws need a temperature above 0 and top_p in 0..1, not {temperature} and {top_p}")
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self._generators: list[torch.Generator] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) of the next token with a draw's noise on them, minus infinity where not drawn from."""
        scores = scores.float() / self.temperature
        if self.top_p < 1:
            scores = scores.masked_fill(~nucleus(scores, self.top_p), -torch.inf)
        # At the first step: only now it is known on which device, and of how many rows.
        while len(self._generators) < len(scores):
            seed = self.seed if isinstance(self.seed, int) else self.seed[len(self._generators)]
            self._generators.append(torch.Generator(scores.device).manual_seed(seed))
        draws = []
        for row, generator in zip(scores, self._generators, strict=False):
            draws.append(torch.empty_like(row).exponential_(generator=generator))
        # Minus the logarithm of an exponential draw is Gumbel noise; a draw of 0 has none.
        return scores - torch.stack(draws).clamp(min=1e-30).log()


def nucleus(scores: Tensor, top_p: float) -> Tensor:
    """The fewest likeliest tokens whose probabilities sum to at least ``top_p`` (Holtzman et al. 2020).

    Args:
        scores: Shape (B, V).
        top_p: In 0..1.

    Returns:
        Shape (B, V), True for those tokens; the likeliest one is always among them.
    """
    ordered, order = scores.sort(descending=True)
    probabilities = ordered.softmax(-1)
    kept = probabilities.cumsum(-1) - probabilities < top_p
    return torch.zeros_like(kept).scatter(-1, order, kept)
