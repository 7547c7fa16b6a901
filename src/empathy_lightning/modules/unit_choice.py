"""How the next unit is chosen: the likeliest one, or a draw; all on the device, without a look at the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.errors import InputError


@dataclass(frozen=True)
class UnitDecoding:
    """How the units of a reply are chosen, and how many there may be.

    Attributes:
        temperature: 0 takes the likeliest unit, which may repeat itself without end; above it, units are drawn. None
            stands for 0.4, at which words are clearer than at 1, and for 1 with ``released_rules``.
        top_k: Draw from this many likeliest units (the released code: 50); None for all.
        top_p: Draw from the likeliest units whose probabilities reach this sum, in 0..1.
        repetition_penalty: Above 1, units of the last ``repetition_window`` become less likely: a positive score is
            divided by it, a negative one multiplied (CTRL, arXiv 1909.05858).
        repetition_window: Units that are looked back upon.
        units_per_token: Once the text has ended, the reply may hold this many units for each of its tokens and
            ``spare_units`` more; None for no such cap.
        spare_units: See there.
        max_units: Most units after the end of the text (the released code: 1024).

    Raises:
        InputError: If a value is out of range.
    """

    temperature: float | None = None
    top_k: int | None = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    repetition_window: int = 50
    units_per_token: float | None = None
    spare_units: int = 50
    max_units: int = 1500

    def __post_init__(self) -> None:
        if (self.temperature or 0) < 0 or not 0 < self.top_p <= 1:
            raise InputError("a temperature has to be 0 or more, top_p above 0 and at most 1")
        if self.top_k is not None and self.top_k < 1:
            raise InputError("top_k has to be at least 1")
        if self.repetition_penalty <= 0 or self.repetition_window < 1:
            raise InputError("a repetition penalty has to be above 0, its window at least 1")
        if min(self.units_per_token or 0, self.spare_units, self.max_units) < 0:
            raise InputError("units_per_token, spare_units and max_units have to be 0 or more")

    @classmethod
    def of(cls, options: Any) -> UnitDecoding:
        """That of a reply's options, a :class:`empathy_lightning.decoding.Decoding`."""
        return cls(
            options.unit_temperature,
            options.unit_top_k,
            options.unit_top_p,
            options.unit_repetition_penalty,
            units_per_token=options.units_per_token,
        )

    def at_temperature(self, released_rules: bool) -> UnitDecoding:
        """With the temperature that None stands for."""
        if self.temperature is not None:
            return self
        return replace(self, temperature=1.0 if released_rules else 0.4)

    def allowed(self, tokens: int, written: int, written_since: int) -> int:
        """Units that a reply may still get after the end of its text.

        Args:
            tokens: Of its text.
            written: Its units so far.
            written_since: Those of them after the end of the text.
        """
        left = self.max_units - written_since
        if self.units_per_token is not None:
            left = min(left, int(self.units_per_token * tokens) + self.spare_units - written)
        return max(0, left)


def choose(scores: Tensor, decoding: UnitDecoding, uniform: Tensor, recent: Tensor) -> Tensor:
    """The next choice of each row.

    Args:
        scores: Of each choice, shape (B, V), minus infinity where there is none.
        decoding: How to choose; its temperature is not None.
        uniform: A number in [0, 1) for each row, shape (B,): the share of the probabilities, likeliest first where
            ``top_k`` or ``top_p`` cut, that lies before the choice.
        recent: Choices looked back upon, shape (B, W); V stands for none.

    Returns:
        Indices into V, shape (B,).
    """
    if decoding.repetition_penalty != 1:
        scores = _penalised(scores, recent, decoding.repetition_penalty)
    if not decoding.temperature:
        return scores.argmax(-1)
    order = None
    if decoding.top_k is not None and decoding.top_k < scores.shape[1]:
        scores, order = scores.topk(decoding.top_k)
    elif decoding.top_p < 1:
        scores, order = scores.sort(descending=True)
    shares = (scores / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        # Whatever lies before it has not reached the sum: the one that reaches it is still among them.
        shares = shares * (shares.cumsum(-1) - shares < decoding.top_p)
    reached = shares.cumsum(-1)
    # The largest uniform number is 1 - 2^-24, so that the last share is never passed.
    index = (reached <= uniform[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    if order is not None:
        index = order.gather(1, index)
    return index[:, 0]


def _penalised(scores: Tensor, recent: Tensor, penalty: float) -> Tensor:
    # A column for V, which stands for none.
    padded = torch.nn.functional.pad(scores, (0, 1))
    seen = padded.gather(1, recent)
    return padded.scatter(1, recent, torch.where(seen > 0, seen / penalty, seen * penalty))[:, :-1]
