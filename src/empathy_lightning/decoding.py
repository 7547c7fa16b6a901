"""How a reply is chosen: its words, and the units of its speech."""

from __future__ import annotations

import math
from dataclasses import dataclass

from empathy_lightning.errors import InputError


@dataclass(frozen=True)
class Decoding:
    """How a reply is chosen.

    Attributes:
        max_new_tokens: Most tokens of its text; None for 128, or as many as the paper takes whose prompts are used.
        temperature: 0 takes the likeliest words; above it, they are drawn.
        top_p: Draw from the likeliest tokens whose probabilities reach this sum, in 0..1.
        seed: Of each reply's draws, which depend on neither batch nor shard.
        unit_temperature: Speech units are drawn at this temperature; 0 takes the likeliest ones, which may repeat
            themselves without end. None stands for 0.4, and for 1 with released_rules of the speech decoder, as the
            released code has it.
        unit_top_k: Draw from this many likeliest units.
        unit_top_p: Draw from the likeliest units whose probabilities reach this sum, in 0..1.
        unit_repetition_penalty: Above 1, the last 50 units become less likely.
        units_per_token: Most units for each token of the text, and 50 more, against speech that does not end; speech at
            50 units a second has about 17. None for 1500 after the text, whatever its length.

    Raises:
        InputError: If a value is out of range.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    unit_temperature: float | None = None
    unit_top_k: int = 50
    unit_top_p: float = 1.0
    unit_repetition_penalty: float = 1.0
    units_per_token: float | None = 40.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} has to be a number, not {value}")
        if self.longest < 1 or self.unit_top_k < 1:
            raise InputError("max_new_tokens and unit_top_k have to be at least 1")
        shares = (self.top_p, self.unit_top_p)
        if min(self.temperature, self.unit_temperature or 0) < 0 or not 0 < min(shares) <= max(shares) <= 1:
            raise InputError("a temperature has to be 0 or more, top_p above 0 and at most 1")
        if self.unit_repetition_penalty <= 0 or (self.units_per_token is not None and self.units_per_token <= 0):
            raise InputError("unit_repetition_penalty and units_per_token have to be above 0")

    @property
    def longest(self) -> int:
        """Most tokens of a reply's text."""
        return 128 if self.max_new_tokens is None else self.max_new_tokens

    @property
    def chooses_units(self) -> bool:
        """Whether the units of speech are to be chosen otherwise than by default."""
        own, default = vars(self), vars(Decoding())
        return any(own[name] != default[name] for name in own if name.startswith("unit"))
