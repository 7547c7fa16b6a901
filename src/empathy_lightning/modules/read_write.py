"""When text is read and units are written."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReadWriteSchedule:
    """Read some text tokens, write some units, and so on; with the last text, write all that remains.

    Args:
        read: Text tokens per turn (FreezeEmpath: 3).
        write: Units per turn (FreezeEmpath: 15).
    """

    read: int = 3
    write: int = 15

    def turns(self, text_length: int, units_length: int) -> list[tuple[slice, slice]]:
        """Cut text (with its end marker) and units (with theirs) into turns.

        Args:
            text_length: Text rows, end marker included.
            units_length: Units, end marker included.

        Returns:
            Slices into text and units, in order; the last turn takes all remaining units.
        """
        count = max(1, -(-text_length // self.read))
        # Too few units for a turn each: the whole text is read first.
        if -(-units_length // self.write) < count:
            return [(slice(0, text_length), slice(0, units_length))]
        turns = []
        for turn in range(count):
            text = slice(turn * self.read, min((turn + 1) * self.read, text_length))
            last = turn == count - 1
            end = units_length if last else (turn + 1) * self.write
            turns.append((text, slice(turn * self.write, end)))
        return turns

    def order(self, text_length: int, units_length: int) -> Tensor:
        """Where each position of the turns comes from; arguments as of :meth:`turns`.

        Returns:
            Indices into the text with the units behind it, shape (text_length + units_length,).
        """
        pieces = []
        for text, units in self.turns(text_length, units_length):
            pieces.append(torch.arange(text.start, text.stop))
            pieces.append(torch.arange(text_length + units.start, text_length + min(units.stop, units_length)))
        return torch.cat(pieces)
