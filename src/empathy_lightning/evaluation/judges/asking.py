"""Asks a judge many questions: several at once, patiently, and so that nothing that was answered is lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.judges.judge import Answer, AskAgain, Judge, Question
from empathy_lightning.progress import progress_bar, say

_FAILURES_IN_A_ROW = 3
"""After so many questions without an answer, and none between them that had one, the judge is taken to be down."""


class Asked(NamedTuple):
    """A question that is still to be asked.

    Attributes:
        key: Of its answer.
        question: Makes it, with its recordings, when its turn has come.
    """

    key: str
    question: Callable[[], Question]


def ask_all(judge: Judge, asked: Iterable[Asked], keep: Callable[[str, Answer], None], what: str) -> dict[str, str]:
    """Ask all questions, and hand each answer on as soon as it is there.

    A call that fails is made again after a while; a judge that names a time makes all calls wait. An interruption
    lets the calls under way end, so that their questions need not be asked twice; a second one does not.

    Args:
        judge: Is called from ``pace.at_once`` threads.
        asked: The questions.
        keep: Is given the key and the answer, by one thread at a time.
        what: Stands before the progress bar.

    Returns:
        Why there is no answer, by the keys of those that have none.

    Raises:
        InputError: If the judge is down or refuses the calls themselves.
    """
    questions = list(asked)
    if not questions:
        return {}
    with progress_bar(total=len(questions), what=what) as progress:

        def _keep(key: str, answer: Answer) -> None:
            keep(key, answer)
            progress.update(1)

        return _Asking(judge, iter(questions), _keep).run()


class _Asking:
    """One run over the questions."""

    def __init__(self, judge: Judge, asked: Iterator[Asked], keep: Callable[[str, Answer], None]) -> None:
        self._judge = judge
        self._asked = asked
        self._keep = keep
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open_at = 0.0
        self._fault: BaseException | None = None
        self._failed: dict[str, str] = {}
        self._in_a_row = 0
        self._at_work = judge.pace.at_once
        self._ended = threading.Event()

    def run(self) -> dict[str, str]:
        """Ask until all is answered or the run is stopped; why there is no answer, by key."""
        for _ in range(self._at_work):
            # Threads that a stalled call holds must not keep the process from ending.
            threading.Thread(target=self._work, daemon=True).start()
        try:
            self._wait_for_the_end()
        except KeyboardInterrupt:
            self._stopping.set()
            say("interrupted: the questions under way are still answered (interrupt again to leave them)")
            self._wait_for_the_end()
            raise
        if self._fault is not None:
            raise self._fault
        return self._failed

    def _wait_for_the_end(self) -> None:
        # An interrupted Thread.join takes a thread that works on for ended (Python 3.11).
        while not self._ended.wait(0.2):
            pass

    def _work(self) -> None:
        try:
            while batch := self._next():
                self._ask(batch)
        except BaseException as error:
            # The main thread raises it.
            self._fault = self._fault or error
            self._stopping.set()
        with self._lock:
            self._at_work -= 1
            if not self._at_work:
                self._ended.set()

    def _next(self) -> list[Asked]:
        """What this thread asks next; nothing where the run is stopped."""
        if self._stopping.is_set():
            return []
        with self._lock:
            return list(itertools.islice(self._asked, self._judge.pace.batch_size))

    def _ask(self, batch: list[Asked]) -> None:
        pace = self._judge.pace
        questions = [one.question() for one in batch]
        reason = ""
        for attempt in range(pace.attempts):
            if not self._may_go_on():
                return
            try:
                answers = self._judge.ask(questions)
            except AskAgain as error:
                reason = str(error)
                if attempt + 1 < pace.attempts:
                    self._wait(error, attempt)
                continue
            self._take(batch, answers)
            return
        self._give_up(batch, reason)

    def _may_go_on(self) -> bool:
        """Wait until the judge may be asked; False where the run is stopped before that."""
        while (left := self._open_at - time.monotonic()) > 0:
            if self._stopping.wait(left):
                break
        return not self._stopping.is_set()

    def _wait(self, error: AskAgain, attempt: int) -> None:
        pace = self._judge.pace
        if error.seconds is None:
            self._stopping.wait(min(pace.longest_wait, pace.first_wait * 2**attempt))
            return
        if error.seconds > pace.longest_wait:
            raise InputError(
                f"{error}, and asks to wait {error.seconds:.0f} s: run again then; what it answered is kept"
            )
        with self._lock:
            self._open_at = max(self._open_at, time.monotonic() + error.seconds)

    def _take(self, batch: list[Asked], answers: list[Answer]) -> None:
        with self._lock:
            self._in_a_row = 0
            for one, answer in zip(batch, answers, strict=True):
                self._keep(one.key, answer)

    def _give_up(self, batch: list[Asked], reason: str) -> None:
        with self._lock:
            self._in_a_row += 1
            for one in batch:
                self._failed[one.key] = reason
            # Raised inside a thread, which hands it to the main one and stops the others.
            if self._in_a_row >= _FAILURES_IN_A_ROW:
                raise InputError(f"{reason}; what was answered is kept: look there, and run again to go on")
