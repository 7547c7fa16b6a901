"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from empathy_lightning.reply import Reply
from empathy_lightning.serving.engine import Engine, Heard
from empathy_lightning.streaming import AudioBlock, TextPiece

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 21, 34, 60)
_FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)


class Metrics:
    """Counts what becomes of questions.

    Args:
        engine: Whose queue is looked at.

    Attributes:
        open: Replies that are being made, or on their way to whoever asked.
        log: Where faults are told.
    """

    def __init__(self, engine: Engine) -> None:
        self.open = 0
        self.log = logging.getLogger("empathy_lightning.serving")
        self._registry = CollectorRegistry()

        def _seconds(name: str, what: str) -> Histogram:
            return Histogram(f"empathy_{name}_seconds", what, buckets=_SECONDS, registry=self._registry)

        self._heard = _seconds("heard", "From the question to what was heard, the queue included.")
        self._first_text = _seconds("first_text", "From the question to the first word, the queue included.")
        self._first_audio = _seconds("first_audio", "From the question to the first sound, the queue included.")
        self._whole = _seconds("reply", "From the question to the end of the reply, the queue included.")
        self._factor = Histogram(
            "empathy_real_time_factor", "Work per second of sound.", buckets=_FACTORS, registry=self._registry
        )
        self._questions = Counter("empathy_questions", "By what became of them.", ["outcome"], registry=self._registry)
        self.conversations = Gauge("empathy_conversations", "Live ones.", registry=self._registry)
        waiting = Gauge("empathy_waiting", "Questions in the queue.", registry=self._registry)
        waiting.set_function(lambda: engine.waiting)
        answering = Gauge("empathy_answering", "Questions that are being answered.", registry=self._registry)
        answering.set_function(lambda: engine.answering)

    def count(self, outcome: str) -> None:
        """Count a question: answered, interrupted, refused or failed."""
        self._questions.labels(outcome).inc()

    def observe(self, event: Heard | TextPiece | AudioBlock | Reply, seconds: float) -> None:
        """Take the first event of its kind of a question.

        Args:
            event: What came.
            seconds: Since the question was asked.
        """
        if isinstance(event, Heard):
            self._heard.observe(seconds)
        elif isinstance(event, TextPiece):
            self._first_text.observe(seconds)
        elif isinstance(event, AudioBlock):
            self._first_audio.observe(seconds)
        else:
            self._whole.observe(seconds)
            outcome = "interrupted" if event.interrupted else "answered"
            self.count(outcome)
            if event.timings.real_time_factor is not None:
                self._factor.observe(event.timings.real_time_factor)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
