"""A reply's sound while its units come in, whatever the vocoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.modules.contracts import SoundStream, VocoderError, check_units


class VocoderStream:
    """One reply, spoken by a vocoder as its units come in.

    What is pushed may be cut anywhere: the blocks behind one another equal ``vocoder(units)``. A vocoder with
    ``samples_per_unit`` and ``context`` is run over each block with its context on either side, of which the samples
    are cut off, so a unit is heard as soon as ``context`` more are there. A vocoder with ``begin()`` streams by itself;
    any other one speaks at :meth:`end`.

    Args:
        vocoder: As :class:`.contracts.Vocoder`.

    Raises:
        VocoderError: Here or later, if the vocoder cannot speak.
    """

    def __init__(self, vocoder: nn.Module) -> None:
        begin = getattr(vocoder, "begin", None)
        self._vocoder = vocoder
        self._stream: SoundStream = begin() if begin is not None else _stream_of(vocoder)

    def push(self, units: Tensor) -> Tensor:
        """Take the next units.

        Args:
            units: Shape (n,), whole numbers; n may be 0.

        Returns:
            What can be heard now: a waveform (t,) in -1..1 on the CPU, perhaps empty.

        Raises:
            VocoderError: If a unit is not in the vocoder's vocabulary, or the vocoder fails.
        """
        check_units(units, self._vocoder)
        return self._stream.push(units).cpu()

    def end(self) -> Tensor:
        """Take no more units.

        Returns:
            The rest of the waveform (t,), on the CPU.

        Raises:
            VocoderError: If the vocoder fails.
        """
        rest = self._stream.end().cpu()
        self._stream.close()
        return rest

    def close(self) -> None:
        """Let go of what is held, in the middle of a reply too; twice does no harm."""
        self._stream.close()


def _stream_of(vocoder: Any) -> SoundStream:
    context, samples = getattr(vocoder, "context", None), getattr(vocoder, "samples_per_unit", None)
    if context is None or samples is None:
        return _Whole(vocoder)
    return _Overlapping(vocoder, context, samples)


def _spoken(vocoder: nn.Module, units: Tensor) -> Tensor:
    """Waveform (T,) of units (U,)."""
    with torch.inference_mode():
        waveform: Tensor = vocoder(units[None])
    if waveform.ndim != 2 or len(waveform) != 1:
        raise VocoderError(
            f"{type(vocoder).__name__} gives {tuple(waveform.shape)} for one reply: it has to give (B, T), here (1, T)"
        )
    return waveform[0]


class _Whole:
    """Speaks when all units are there."""

    def __init__(self, vocoder: nn.Module) -> None:
        self.vocoder = vocoder
        self.units: list[Tensor] = []

    def push(self, units: Tensor) -> Tensor:
        """Keep the units (n,); nothing is heard of them yet."""
        self.units.append(units)
        return torch.zeros(0)

    def end(self) -> Tensor:
        """The whole waveform (T,)."""
        units = torch.cat(self.units) if self.units else torch.zeros(0, dtype=torch.long)
        return _spoken(self.vocoder, units) if len(units) else torch.zeros(0)

    def close(self) -> None:
        """Forget the units."""
        self.units = []


class _Overlapping:
    """Runs the vocoder over context, block and context, and keeps the block's samples."""

    def __init__(self, vocoder: nn.Module, context: int, samples_per_unit: int) -> None:
        self.vocoder = vocoder
        self.context = context
        self.samples_per_unit = samples_per_unit
        self.units = torch.zeros(0, dtype=torch.long)
        self.heard = 0  # of the units kept, those that were heard already: at most the context

    def push(self, units: Tensor) -> Tensor:
        """The samples of all units behind which their context is there by now; the units that these hear are kept."""
        self.units = torch.cat([self.units.to(units.device), units])
        ready = len(self.units) - self.context
        if ready <= self.heard:
            return torch.zeros(0)
        waveform = _spoken(self.vocoder, self.units)
        block = waveform[self.heard * self.samples_per_unit : ready * self.samples_per_unit]
        self.heard = min(ready, self.context)
        self.units = self.units[ready - self.heard :]
        return block

    def end(self) -> Tensor:
        """The samples (t,) of the last units, with nothing behind them as in a whole reply."""
        if self.heard == len(self.units):
            return torch.zeros(0)
        # The last unit may ring longer than a unit lasts.
        return _spoken(self.vocoder, self.units)[self.heard * self.samples_per_unit :]

    def close(self) -> None:
        """Forget the units."""
        self.units = self.units[:0]
        self.heard = 0
