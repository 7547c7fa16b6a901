"""A vocoder that lives elsewhere, as a part: what the one in a process and the one behind HTTP share."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor, nn

from empathy_lightning.modules.contracts import SoundStream, VocoderError, check_units
from empathy_lightning.modules.vocoders.wire import Greeting, Request


class Line(Protocol):
    """A way to a vocoder elsewhere."""

    def greeting(self) -> Greeting:
        """What it said of itself."""

    def ask(self, request: Request) -> Tensor:
        """The waveform (t,) that it answers; VocoderError if it does not."""


class ExternalVocoder(nn.Module):
    """Speaks by a vocoder elsewhere; a subclass gives the line to it.

    Args:
        sample_rate: Of its waveforms, in Hz; checked against what it says of itself.
        num_units: Size of its vocabulary, checked too; None for any.
    """

    needs_trust = "reaches outside this process"
    """Why a folder that names such a part is not loaded unasked, see :func:`empathy_lightning.parts.build`."""

    def __init__(self, sample_rate: int, num_units: int | None = None) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.num_units = num_units
        self.samples_per_unit = None
        self.context = None

    def line(self) -> Line:
        """The way to it, made where there is none.

        Raises:
            VocoderError: If it cannot be reached.
        """
        raise NotImplementedError

    def begin(self) -> SoundStream:
        """A reply of its own, see :class:`~empathy_lightning.modules.contracts.SoundStream`.

        Raises:
            VocoderError: If the vocoder cannot be reached, or is another one than was said.
        """
        line = self.line()
        greeting = line.greeting()
        if greeting.sample_rate != self.sample_rate:
            raise VocoderError(
                f"the vocoder speaks at {greeting.sample_rate} Hz, not {self.sample_rate}: give sample_rate "
                f"{greeting.sample_rate}"
            )
        if self.num_units is not None and greeting.num_units not in (None, self.num_units):
            raise VocoderError(
                f"the vocoder knows {greeting.num_units} units, not {self.num_units}: use the vocoder of the units' "
                "own vocabulary"
            )
        return _Reply(line)

    @torch.no_grad()
    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U), on the units' device; shorter rows end in silence.

        Raises:
            VocoderError: If a unit is unknown, or the vocoder cannot speak.
        """
        check_units(units, self)
        if not units.numel():
            return torch.zeros(len(units), 0, device=units.device)
        rows = []
        for row in units:
            reply = self.begin()
            try:
                rows.append(torch.cat([reply.push(row), reply.end()]))
            finally:
                reply.close()
        return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(units.device)


class _Reply:
    """A reply that is spoken elsewhere while its units come in."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.name = uuid.uuid4().hex
        self.open = False

    def push(self, units: Tensor) -> Tensor:
        """Ask for what can be heard with the units (n,); the first ones begin the reply there."""
        if not len(units):
            return torch.zeros(0)
        self.open = True
        return self.line.ask(Request(self.name, [int(unit) for unit in units.tolist()]))

    def end(self) -> Tensor:
        """Ask for the rest, a waveform (t,); a reply without units was never begun."""
        if not self.open:
            return torch.zeros(0)
        self.open = False
        return self.line.ask(Request(self.name, end=True))

    def close(self) -> None:
        """Give the reply up there, if it was begun and has not ended."""
        if not self.open:
            return
        self.open = False
        # Whoever gives a reply up does not mind that its vocoder is gone.
        with suppress(VocoderError):
            self.line.ask(Request(self.name, cancel=True))
