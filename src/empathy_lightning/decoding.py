"""How a reply is chosen: its words, and the units of its speech."""

from __future__ import annotations

from dataclasses import dataclass

from empathy_lightning.errors import InputError

UNIT_TEMPERATURE = 0.4
"""At which speech units are drawn: words are clearer than at 1, and the likeliest units may repeat themselves."""


@dataclass(frozen=True)
class Decoding:
    """How a reply is chosen.

    Attributes:
        max_new_tokens: Most tokens of its text.
        temperature: 0 takes the likeliest words; above it, they are drawn.
        top_p: Draw from the likeliest tokens whose probabilities reach this sum, in 0..1.
        seed: Of each reply's draws, which depend on neither batch nor shard.
        unit_temperature: Speech units are drawn from the 50 likeliest at this temperature; 0 takes the likeliest
            ones, which may repeat themselves without end. None stands for 0.4, and for 1 with released_rules of the
            speech decoder, as the released code has it.

    Raises:
        InputError: If a value is out of range.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    unit_temperature: float | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError("max_new_tokens has to be at least 1")
        if min(self.temperature, self.unit_temperature or 0) < 0 or not 0 < self.top_p <= 1:
            raise InputError("a temperature has to be 0 or more, top_p above 0 and at most 1")
