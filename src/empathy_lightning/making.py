"""The two threads that make replies: one writes, one speaks; what they made waits in queues of bounded length."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection
from math import inf
from time import monotonic
from typing import Any, Protocol

from empathy_lightning.speaking import Speech
from empathy_lightning.writing import Piece, Told

_TICK = 0.05
"""Seconds after which a thread that waits looks whether it is still wanted."""

_AHEAD = 64
"""Steps that the language model may be ahead of the speech, and events that may wait to be taken."""


_LAST_SECOND = 1.0
"""Seconds that the end waits for the speech; after them it ends by itself, as soon as the vocoder comes back."""


class Write(Protocol):
    """Writes replies, and tells each step's pieces."""

    def __call__(self, told: Told) -> Any:
        """Write until all replies have ended, or are to end."""


class Begin(Protocol):
    """Begins to say replies, as :meth:`.Talker.begin`."""

    def __call__(self, *, stopped: Callable[[], bool]) -> Speech:
        """Their speech, which says nothing more once it is stopped."""


class Making:
    """The threads behind a stream of replies. They do not know the stream, so that nobody has to hold it.

    Args:
        write: Writes the replies.
        begin: Begins to say them; None leaves them as text.

    Attributes:
        left: Rows of the replies that are wanted no more, while the others go on.
        stop: Once it is set, both end within a step, and the speech with what the vocoder is saying.
        waited: Seconds for which the speech has waited for the consumer.
    """

    def __init__(self, write: Write, begin: Begin | None) -> None:
        self.stop = threading.Event()
        self.left: frozenset[int] = frozenset()
        self.write = write
        self.speech = None if begin is None else begin(stopped=self.stop.is_set)
        self.patience = 0.0 if self.speech is None else self.speech.patience
        self.mute = self.speech is None
        self.waited = 0.0
        self.made: queue.Queue[Any] = queue.Queue(_AHEAD)
        self.handed: queue.Queue[list[Piece | None] | None] = queue.Queue(_AHEAD)
        # Daemons, since a vocoder that hangs must not keep the program from ending.
        self.writer = threading.Thread(target=self._run, args=(self._write,), name="writing", daemon=True)
        self.speaker = threading.Thread(target=self._run, args=(self._speak,), name="speaking", daemon=True)

    def start(self) -> None:
        """Begin to write and to speak."""
        self.writer.start()
        if not self.mute:
            self.speaker.start()

    def next(self) -> Any:
        """What was made next: a piece as (row, piece, time), a block, or what a thread raised.

        None where the vocoder has stalled, or nobody wants more.
        """
        while not self.stop.is_set() and not self._stalled:
            working = self.writer.is_alive() or self.speaker.is_alive()
            try:
                return self.made.get(working, _TICK)
            except queue.Empty:
                if not working:
                    raise RuntimeError("writing and speaking have ended, but not the replies") from None
        return None

    @property
    def _stalled(self) -> bool:
        return not self.mute and self.speech is not None and self.speech.stalled

    def gives_up(self) -> bool:
        """Whether the speech is given up, since the vocoder has stalled."""
        self.mute = self.mute or self._stalled
        return self.mute

    def join(self, longest: float = inf) -> None:
        """Wait until the threads have ended; for the speaker a second at most, since a vocoder may keep it longer."""
        for thread, seconds in ((self.writer, longest), (self.speaker, _LAST_SECOND)):
            until = monotonic() + seconds
            # A stream that is let go of is finalised in any thread, in one of these too; none can wait for itself.
            while thread.is_alive() and thread is not threading.current_thread() and monotonic() < until:
                thread.join(_TICK)

    def _run(self, work: Any) -> None:
        try:
            work()
        # Whoever takes the replies raises it, whatever it is.
        except BaseException as error:
            self._put(self.made, error, self._wanted)

    def _write(self) -> None:
        self.write(self._told)
        self._put(self.handed, None, self._listening)

    def _told(self, pieces: list[Piece | None]) -> Collection[int]:
        # When it was written, which may be long before it is taken.
        at = monotonic()
        for row, piece in enumerate(pieces):
            if piece is not None and (piece.text or piece.ended):
                self._put(self.made, (row, piece, at), self._wanted)
        self._put(self.handed, pieces, self._listening)
        return self.left if self._wanted() else range(len(pieces))

    def _wanted(self) -> bool:
        return not self.stop.is_set()

    def _listening(self) -> bool:
        return not self.stop.is_set() and not self.mute

    def _speak(self) -> None:
        assert self.speech is not None
        try:
            self._say(self.speech)
        finally:
            self.speech.close()

    def _say(self, speech: Speech) -> None:
        while self._listening():
            try:
                pieces = self.handed.get(timeout=_TICK)
            except queue.Empty:
                continue
            if pieces is None:
                break
            speech.leave(self.left)
            speech.read(pieces)
            for block in speech.write():
                speech.leave(self.left)
                block.worked = block.at - self.waited
                self.waited += self._put(self.made, block, self._listening)
                if not self._listening():
                    break

    def _put(self, into: queue.Queue[Any], what: Any, wanted: Any) -> float:
        """Hand something on as soon as there is room, as long as it is wanted; seconds that this took."""
        began = monotonic()
        while wanted():
            try:
                into.put(what, timeout=_TICK)
                break
            except queue.Full:
                continue
        return monotonic() - began
