"""Replies as they come: text and sound are given out while the rest is still being written and spoken.

Two threads work behind a stream, so that the language model goes on while the talker speaks; each has its own cache.
What they make waits in queues of bounded length, so a consumer that stops reading stops them too.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.making import Begin, Making, Write
from empathy_lightning.reply import Reply, Timings
from empathy_lightning.speaking import Block
from empathy_lightning.writing import Piece


@dataclass(frozen=True)
class TextPiece:
    """The next characters of a reply.

    Attributes:
        text: At least one character.
        row: Of the reply in its batch.
    """

    text: str
    row: int = 0


@dataclass(frozen=True)
class AudioBlock:
    """The next of a reply's sound.

    Attributes:
        waveform: Shape (t,), in -1..1, on the CPU.
        sample_rate: In Hz.
        row: Of the reply in its batch.
        characters: How much of the reply's text the speech decoder had read for it, in all.
    """

    waveform: Tensor
    sample_rate: int
    row: int = 0
    characters: int = 0


Event = TextPiece | AudioBlock | Reply


class ReplyStream:
    """Replies of a batch, as an iterator over what comes of them: text, sound, and each whole reply at its end.

    The work begins at once. It is also a context, which ends with the work; so does whoever lets go of it.

    Args:
        write: Writes the replies.
        begin: Begins to say them; None leaves them as text.
        replies: With what was heard; each is completed as its pieces are taken.
        sample_rate: Of the speech, in Hz; None where there is no sound.
        began: When the questions were handed over, by :func:`time.monotonic`.

    Attributes:
        replies: What was heard and, as far as it was taken, what is answered.
    """

    def __init__(
        self,
        write: Write,
        begin: Begin | None,
        replies: Sequence[Reply],
        sample_rate: int | None = None,
        began: float | None = None,
    ) -> None:
        self.replies = list(replies)
        self._began = monotonic() if began is None else began
        self._sample_rate = sample_rate
        self._rows = [_Row(spoken=begin is None) for _ in replies]
        self._seconds, self._worked = 0.0, 0.0
        self._ready: deque[Event] = deque()
        self._lock = threading.RLock()
        self._making = Making(write, begin)
        weakref.finalize(self, _leave, self._making)
        self._making.start()

    @property
    def reply(self) -> Reply:
        """The first reply, or the only one."""
        return self.replies[0]

    def __iter__(self) -> Iterator[Event]:
        """Itself."""
        return self

    def __next__(self) -> Event:
        """The next event; waits for it.

        Raises:
            Exception: What a network or a part raised, in whose thread it may be.
        """
        while True:
            with self._lock:
                if self._ready:
                    return self._ready.popleft()
                if self._closed:
                    # What is still made of replies that were left is not waited for.
                    self._making.stop.set()
                    self._making.join()
                    raise StopIteration
            if self._making.stop.is_set():
                raise StopIteration
            made = self._making.next()
            with self._lock:
                self._take(made)

    @property
    def _closed(self) -> bool:
        return all(row.closed for row in self._rows)

    def __enter__(self) -> ReplyStream:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the work."""
        self.cancel()

    def cancel(self) -> Reply:
        """Stop writing within a step, and speaking too, from any thread; after the end it does nothing.

        A vocoder that is in the middle of a block is waited for a second at most, and ends behind it.

        What was not said does not enter the history: :attr:`.Reply.turn` holds the text that the speech decoder had
        read for the last sound that was taken, and nothing before the first one; of a bot without a voice, or after a
        fault of it, the text that was taken.

        Returns:
            The first reply, as far as it was taken.
        """
        self._making.stop.set()
        self._making.join()
        with self._lock:
            self._ready.clear()
            for number, row in enumerate(self._rows):
                if not row.closed:
                    self._close(number, interrupted=True)
        return self.reply

    def leave(self, row: int) -> Reply:
        """End one reply of the batch as :meth:`cancel` ends all, from any thread; the others go on.

        Returns:
            The reply, as far as it was taken.
        """
        with self._lock:
            self._making.left |= {row}
            if not self._rows[row].closed:
                self._close(row, interrupted=True)
            kept = [event for event in self._ready if isinstance(event, Reply) or event.row != row]
            self._ready = deque(kept)
            if self._closed:
                self._making.stop.set()
        return self.replies[row]

    def drained(self) -> list[Reply]:
        """The whole replies, once they are there."""
        with self:
            for _ in self:
                pass
        return self.replies

    def _take(self, made: Any) -> None:
        """Put into the replies what a thread made."""
        if self._closed:
            return
        if made is None:
            self._silence()
        elif isinstance(made, BaseException):
            self.cancel()
            raise made
        elif isinstance(made, Block):
            self._hear(made)
        else:
            self._read(*made)
        for number, row in enumerate(self._rows):
            if row.written and row.spoken and not row.closed:
                self._close(number)
                self._ready.append(self.replies[number])

    def _read(self, number: int, piece: Piece, at: float) -> None:
        row, reply = self._rows[number], self.replies[number]
        if row.closed:
            return
        reply.text += piece.text
        reply.cut, reply.fault, row.written = piece.cut, reply.fault or piece.fault, piece.ended
        if piece.text:
            row.first_text = row.first_text or at
            self._ready.append(TextPiece(piece.text, number))

    def _hear(self, block: Block) -> None:
        row, reply = self._rows[block.row], self.replies[block.row]
        if row.spoken or row.closed:
            return
        row.spoken, reply.fault, reply.speech_cut = block.ended, reply.fault or block.fault, block.cut
        if len(block.units):
            reply.units = reply.units or []
            reply.units += block.units.tolist()
        if block.waveform is not None and self._sample_rate is not None:
            row.first_audio = row.first_audio or block.at
            row.characters = block.characters
            row.sounds.append(block.waveform)
            self._worked = max(self._worked, block.worked - self._began)
            self._seconds += len(block.waveform) / self._sample_rate
            self._ready.append(AudioBlock(block.waveform, self._sample_rate, block.row, block.characters))

    def _silence(self) -> None:
        """Go on without speech, if the vocoder has stalled."""
        if not self._making.gives_up():
            return
        for row, reply in zip(self._rows, self.replies, strict=True):
            if not row.spoken:
                row.spoken = True
                reply.fault = f"the vocoder stalled: it gave nothing for {self._making.patience:g} s"

    def _close(self, number: int, interrupted: bool = False) -> None:
        row, reply = self._rows[number], self.replies[number]
        row.closed = True
        reply.interrupted = interrupted
        if row.sounds:
            reply.waveform, reply.sample_rate = torch.cat(row.sounds), self._sample_rate
        said = reply.text
        if interrupted and self._sample_rate is not None and reply.fault is None:
            said = reply.text[: row.characters].rstrip()
        reply.turn = replace(reply.turn, reply=said)
        first_text = None if row.first_text is None else row.first_text - self._began
        first_audio = None if row.first_audio is None else row.first_audio - self._began
        reply.timings = Timings(first_text, first_audio, self._worked / self._seconds if self._seconds else None)


@dataclass
class _Row:
    """Where a reply stands.

    Attributes:
        spoken: Whether no more speech comes of it.
        written: Whether all of its text was taken.
        closed: Whether nothing more comes of it.
        characters: Of its text, that were said in the sound that was taken.
        sounds: What was taken of its waveform.
        first_text: When its first text was there.
        first_audio: When its first sound was there.
    """

    spoken: bool
    written: bool = False
    closed: bool = False
    characters: int = 0
    sounds: list[Tensor] = field(default_factory=list)
    first_text: float | None = None
    first_audio: float | None = None


def _leave(making: Making) -> None:
    """End the work of a stream that nobody holds any more, or whose program ends."""
    making.stop.set()
    # The garbage collector may come by in any thread, one of these two among them.
    if threading.current_thread() is threading.main_thread():
        making.join(longest=5.0)
