"""What a server takes on, and why it refuses the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from empathy_lightning.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Attributes:
        seconds: Of a question's speech, at most.
        megabytes: Of a request, at most; refused before it is read.
        batch_size: Questions that are answered together.
        batches: Batches that are answered at once, so that a question need not wait for the last one's end.
        waiting: Questions that wait for their turn; more are refused (429).
        wait_seconds: A question that has waited so long is refused (503).
        answer_seconds: A reply is cut after so long.
        stall_seconds: A client that neither sends nor takes anything it should for so long is left.
        conversations: Live ones at once; more are refused (503).
        turns: Earlier ones that a conversation keeps.

    Raises:
        InputError: If a value is out of range.
    """

    seconds: float = 60.0
    megabytes: float = 16.0
    batch_size: int = 8
    batches: int = 2
    waiting: int = 64
    wait_seconds: float = 30.0
    answer_seconds: float = 120.0
    stall_seconds: float = 30.0
    conversations: int = 128
    turns: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise InputError(f"--{name} {value} has to be a number above 0")

    @property
    def bytes(self) -> int:
        """Of a request, at most."""
        return round(self.megabytes * 1_000_000)


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: Of HTTP.
        message: One line that says what to do.
        retry_after: Seconds after which it may be tried again; None where that would not help.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
