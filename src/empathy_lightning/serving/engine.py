"""The heart of the server: the threads that own the bot, and answer together what is waiting.

Nothing that a client does reaches them: questions come through a queue of bounded length, and what comes of them is
told at once to whoever asked, who keeps it until it is fetched. A reply has a longest length, and so has what is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from time import monotonic

from torch import Tensor

from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.data.batch import batch_of
from empathy_lightning.decoding import Decoding
from empathy_lightning.filled_prompt import Turn
from empathy_lightning.prompts import Prompt
from empathy_lightning.reply import Reply
from empathy_lightning.serving.limits import Limits, Refused
from empathy_lightning.streaming import AudioBlock, Event, ReplyStream, TextPiece

_GATHER = 0.01
"""Seconds in which questions that come at once find together."""


@dataclass(frozen=True)
class Recalled:
    """An earlier turn of which there is the recording.

    Attributes:
        waveform: At 16 kHz, shape (T,).
        reply: What was replied.
    """

    waveform: Tensor
    reply: str


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        waveform: At 16 kHz, shape (T,), checked.
        history: Earlier turns of the conversation.
        prompt: In the place of the bot's own.
        decoding: How the reply is chosen, its seed included.
        aloud: Whether the reply is spoken too.
    """

    waveform: Tensor
    history: Sequence[Turn | Recalled] = ()
    prompt: Prompt | None = None
    decoding: Decoding = field(default_factory=Decoding)
    aloud: bool = True

    def goes_with(self, other: Question) -> bool:
        """Whether the two can be answered together."""
        return self.aloud == other.aloud and replace(self.decoding, seed=0) == replace(other.decoding, seed=0)


@dataclass(frozen=True)
class Heard:
    """What was heard, before the first word.

    Attributes:
        reply: Without a text as yet.
    """

    reply: Reply


Told = Heard | TextPiece | AudioBlock | Reply | Exception
"""What comes of a question, in this order; a reply or an exception is the last."""


class Asked:
    """A question on its way.

    Args:
        question: What is asked.
        tell: Called with what comes of it, in whatever thread; never blocks.
    """

    def __init__(self, question: Question, tell: Callable[[Told], None]) -> None:
        self.question = question
        self._tell = tell
        self._lock = threading.Lock()
        self._stream: ReplyStream | None = None
        self._row = 0
        self.over = False

    def begin(self, stream: ReplyStream, row: int) -> None:
        """It is being answered, as a row of a batch."""
        with self._lock:
            self._stream, self._row = stream, row
            if self.over:
                stream.leave(row)
                return
            self._tell(Heard(stream.replies[row]))

    def tell(self, what: Told) -> None:
        """Tell what comes of it, unless it is over."""
        with self._lock:
            if not self.over:
                self.over = isinstance(what, Reply | Exception)
                self._tell(what)

    def leave(self) -> None:
        """End the work, and tell the reply as far as it came; at its end this does nothing."""
        with self._lock:
            if self.over:
                return
            self.over = True
            reply = Reply("", interrupted=True) if self._stream is None else self._stream.leave(self._row)
            self._tell(reply)


class Engine:
    """Answers questions, those together that wait together.

    Args:
        bot: Nobody else uses it.
        limits: How much it takes on.
    """

    def __init__(self, bot: EmpatheticChatbot, limits: Limits) -> None:
        self.bot = bot
        self.limits = limits
        self.answering = 0
        self._waiting: deque[Asked] = deque()
        self._pace = 1.0
        self._closed = False
        self._changed = threading.Condition()
        self._hearing = threading.Lock()
        for number in range(limits.batches):
            threading.Thread(target=self._work, name=f"answering {number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Questions that nobody answers as yet."""
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether it takes no more questions."""
        return self._closed

    @property
    def retry_after(self) -> int:
        """Seconds in which those that wait now may be answered, 1 to 60."""
        return min(60, max(1, ceil(self._pace * self.waiting)))

    def ask(self, question: Question, tell: Callable[[Told], None]) -> Asked:
        """Queue a question.

        Raises:
            Refused: If too many wait, or the server is about to end.
        """
        asked = Asked(question, tell)
        with self._changed:
            if self._closed:
                raise Refused(503, "the server is about to end: ask another one", self.retry_after)
            if self.waiting >= self.limits.waiting:
                raise Refused(429, f"{self.waiting} questions are waiting: ask again later", self.retry_after)
            self._waiting.append(asked)
            self._changed.notify()
        return asked

    def leave(self, asked: Asked) -> None:
        """End the work on a question, from any thread; the others of its batch go on."""
        with self._changed:
            if asked in self._waiting:
                self._waiting.remove(asked)
        asked.leave()

    def close(self) -> None:
        """Take no more questions; those that were taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        # A function of its own, so that nothing of one batch is held while the thread waits for the next.
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Answer those that wait together; False at the end."""
        few = self._next()
        if not few:
            return False
        began = monotonic()
        try:
            self._answer(few)
        finally:
            with self._changed:
                self.answering -= len(few)
                # Seconds a question, of which the latest batch counts a fifth.
                took = (monotonic() - began) / len(few) / self.limits.batches
                self._pace += 0.2 * (took - self._pace)
        return True

    def _next(self) -> list[Asked]:
        """The first question that waits, and those that go with it; none at the end."""
        few: list[Asked] = []
        with self._changed:
            while not few:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed and not self._waiting:
                    break
                # A client may leave in this time, or another thread take all: none may be left then.
                self._changed.wait_for(lambda: self._closed, _GATHER)
                few = self._few()
            self.answering += len(few)
        return few

    def _few(self) -> list[Asked]:
        few: list[Asked] = []
        for asked in list(self._waiting):
            if not few or asked.question.goes_with(few[0].question):
                few.append(asked)
                self._waiting.remove(asked)
            if len(few) == self.limits.batch_size:
                break
        return few

    def _answer(self, few: Sequence[Asked]) -> None:
        told = False
        try:
            with self._begin([asked.question for asked in few]) as stream:
                for row, asked in enumerate(few):
                    asked.begin(stream, row)
                told = True
                for event in stream:
                    few[_row_of(event, stream)].tell(event)
        except Exception as error:
            if told or len(few) == 1:
                for asked in few:
                    asked.tell(error)
                return
            # One that cannot be answered does not take the others with it.
            for asked in few:
                self._answer([asked])

    def _begin(self, questions: Sequence[Question]) -> ReplyStream:
        bot = self.bot
        # Threads take turns here; once a stream is made, its steps may run beside those of another.
        with self._hearing:
            past = []
            for question in questions:
                past.append([self._turn(turn) for turn in question.history])
            batch = batch_of([question.waveform for question in questions], bot.emotions).to(bot.model.device)
            batch.prompts = [question.prompt for question in questions]
            seeds = [question.decoding.seed for question in questions]
            return bot.model.stream(batch, questions[0].decoding, past, None, seeds, questions[0].aloud)

    def _turn(self, turn: Turn | Recalled) -> Turn:
        if isinstance(turn, Turn):
            return turn
        return replace(self.bot.hear(turn.waveform), reply=turn.reply)


def _row_of(event: Event, stream: ReplyStream) -> int:
    """Of the reply that an event belongs to."""
    if not isinstance(event, Reply):
        return event.row
    # By identity: two clients may be told the same.
    (row,) = [row for row, reply in enumerate(stream.replies) if reply is event]
    return row
