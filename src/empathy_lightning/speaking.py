"""Speech of replies while they are being written: what is read, what is said, and where it ends too soon."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.faults import cut
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoder_stream import VocoderStream
from empathy_lightning.writing import Piece


@dataclass
class Block:
    """The next of a reply's speech.

    Attributes:
        row: Of the reply in its batch.
        units: Shape (n,), perhaps none.
        waveform: What can be heard now, shape (t,); None where that is nothing.
        characters: How much of the reply's text the speech decoder has read.
        ended: Whether nothing comes after it.
        at: When it was there, by :func:`time.monotonic`.
        fault: What the vocoder died of, in one line; None where it speaks.
        cut: Whether it is the last one since there may be no more units; told by a writer that has ``cut``.
        worked: When it would have been there, had nobody waited for the consumer.
    """

    row: int
    units: Tensor
    waveform: Tensor | None
    characters: int
    ended: bool = False
    fault: str | None = None
    at: float = field(default_factory=monotonic)
    cut: bool = False
    worked: float = 0.0


class Speech:
    """Replies that are being said while they are written, together.

    What goes wrong with one ends that one; a vocoder that stalls ends all.

    Hand it what was written by :meth:`read`, and take from :meth:`write` what can be said of it, in turns.

    Args:
        units: Of the speech decoder's ``begin``.
        vocoder: None leaves it at the units.
        count: Replies.
        patience: Of the talker.
        stopped: Whether to stop.
    """

    def __init__(
        self, units: Any, vocoder: nn.Module | None, count: int, patience: float, stopped: Callable[[], bool]
    ) -> None:
        self.patience = patience
        self._units = units
        self._vocoder = vocoder
        self._stopped = stopped
        self._rows = [_Row(row) for row in range(count)]
        self._over: list[Block] = []
        self._vocoder_until: float | None = None

    @property
    def stalled(self) -> bool:
        """Whether the vocoder has said nothing for longer than it may; any thread may ask."""
        until = self._vocoder_until
        return until is not None and monotonic() > until

    def read(self, pieces: Sequence[Piece | None]) -> None:
        """Take what was written of each reply, None where nothing was."""
        known = [piece.states for piece in pieces if piece is not None]
        if not known:
            return
        states, tokens = [known[0][:0]] * len(pieces), [_ids([], known[0])] * len(pieces)
        for row, piece in zip(self._rows, pieces, strict=True):
            if piece is not None and self._takes(row, piece):
                states[row.number], tokens[row.number] = piece.states, _ids(piece.tokens, piece.states)
        # What is left to say at the end of the texts is said of all replies together.
        ended = all(row.written or row.ended for row in self._rows)
        self._units.read(states, tokens, [ended] * len(pieces))

    def _takes(self, row: _Row, piece: Piece) -> bool:
        """Note what comes of a reply; whether it can be said."""
        row.characters += len(piece.text)
        row.written = piece.ended
        row.has_words = row.has_words or bool(piece.tokens)
        if piece.ended and not row.has_words:
            self._end(row)
        return not row.ended

    def write(self) -> Iterator[Block]:
        """Say what can be said of what was read; the last block of a reply is marked."""
        yield from self._taken()
        for units in self._units.write():
            for row, new in zip(self._rows, units, strict=True):
                if len(new) and not row.ended:
                    yield self._block(row, new)
            yield from self._taken()
        if all(row.written or row.ended for row in self._rows) and not self._stopped():
            for row in self._rows:
                if not row.ended:
                    yield self._block(row, None)

    def leave(self, rows: Collection[int]) -> None:
        """Say no more of some replies; between what :meth:`write` gives out, too."""
        for number in rows:
            if not self._rows[number].ended:
                self._let_go(self._rows[number])

    def close(self) -> None:
        """Let go of all that is held, in the middle of a reply too."""
        for row in self._rows:
            self._end(row)
        self._over = []

    def _taken(self) -> list[Block]:
        taken, self._over = self._over, []
        return taken

    def _end(self, row: _Row) -> None:
        if not row.ended:
            self._let_go(row)
            self._over.append(Block(row.number, torch.zeros(0, dtype=torch.long), None, row.characters, True))

    def _let_go(self, row: _Row) -> None:
        row.ended = True
        self._units.drop(row.number)
        if row.voice is not None:
            row.voice.close()
            row.voice = None

    def _block(self, row: _Row, units: Tensor | None) -> Block:
        """The next units as a block; None for the end of the reply."""
        new = torch.zeros(0, dtype=torch.long) if units is None else units
        block = Block(row.number, new.cpu(), None, row.characters, ended=units is None)
        if self._vocoder is not None:
            # A program that is not there yet has time of its own in which to start.
            starts = getattr(self._vocoder, "start_timeout", 0.0) if row.voice is None else 0.0
            self._vocoder_until = monotonic() + self.patience + starts
            try:
                block.waveform = self._sound(row, units)
            except Exception as error:  # A vocoder of somebody's own may raise whatever it likes.
                block.ended, block.fault = True, _described(error)
            self._vocoder_until = None
        if block.ended:
            block.cut = block.fault is None and row.number in getattr(self._units, "cut", ())
            self._let_go(row)
        block.at = monotonic()
        return block

    def _sound(self, row: _Row, units: Tensor | None) -> Tensor | None:
        if row.voice is None:
            assert self._vocoder is not None
            row.voice = VocoderStream(self._vocoder)
        with torch.no_grad():
            waveform = row.voice.end() if units is None else row.voice.push(units)
        if not waveform.isfinite().all():
            raise VocoderError(f"{type(self._vocoder).__name__} gives a sound that is not finite")
        row.units += 0 if units is None else len(units)
        row.samples += len(waveform)
        if units is None and row.units and not row.samples:
            raise VocoderError(f"{type(self._vocoder).__name__} gives no sound for the {row.units} units of a reply")
        return waveform if len(waveform) else None


@dataclass
class _Row:
    """Where the speech of one reply stands.

    Attributes:
        number: Of the reply.
        characters: Of its text, read so far.
        has_words: Whether any token was read.
        written: Whether all of its text is there.
        ended: Whether nothing more is said.
        voice: Its sound.
        units: Of them, handed to the vocoder so far.
        samples: What came of them.
    """

    number: int
    characters: int = 0
    has_words: bool = False
    written: bool = False
    ended: bool = False
    voice: VocoderStream | None = None
    units: int = 0
    samples: int = 0


def _ids(tokens: Sequence[int], beside: Tensor) -> Tensor:
    return torch.tensor(tokens, dtype=torch.long, device=beside.device)


def _described(error: Exception) -> str:
    """Why a vocoder ended, in one line."""
    text = " ".join(str(error).split())
    if not isinstance(error, VocoderError):
        text = f"the vocoder failed: {type(error).__name__}: {text}"
    return cut(text, 300)
