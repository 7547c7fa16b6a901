"""What a judge is asked of a reply, and how its answer is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.judges.judge import Sampling
from empathy_lightning.evaluation.score_readers import Choice, ScoreReader
from empathy_lightning.evaluation.wording import Wording


@dataclass(frozen=True)
class Criterion:
    """A question about replies.

    Attributes:
        name: Short name; figures carry it.
        version: Counts up when a word of it changes.
        title: What is asked, in a line.
        source: Where the rule comes from, and whom its authors ask.
        origin: ``ours`` where only the rule is published, ``published`` or ``yours``.
        wording: The words.
        reader: Of the answers.
        sampling: How an answer is drawn.
        samples: How often each question is asked.
        attempts: How often it is asked at most until an answer can be read.
    """

    name: str
    version: int
    title: str
    source: str
    origin: str
    wording: Wording
    reader: ScoreReader
    sampling: Sampling = field(default_factory=Sampling)
    samples: int = 1
    attempts: int = 1

    def given(self, user: str | None, reply: str | None) -> Criterion:
        """The same with other things given of the user and of the reply; None leaves them.

        Raises:
            InputError: If a word is unknown, or its wording has no place for them.
        """
        wording = replace(self.wording, user=user or self.wording.user, reply=reply or self.wording.reply)
        if unknown := wording.unknown_words():
            raise InputError(f"criterion {self.name}: {unknown}")
        if reply is not None and "{reply}" not in wording.prompt:
            raise InputError(f"criterion {self.name} asks nothing of the reply: leave out reply {reply}")
        if user is not None and "{user}" not in wording.prompt:
            raise InputError(f"criterion {self.name} has its own place for the user: leave out user {user}")
        return replace(self, wording=wording)

    def choosing(self, words: tuple[str, ...]) -> Criterion:
        """The same with other words to choose from.

        Raises:
            InputError: If it offers none.
        """
        if not isinstance(self.reader, Choice):
            raise InputError(f"criterion {self.name} offers no words to choose from")
        reader, wording = replace(self.reader, words=words), replace(self.wording, choices=words)
        return replace(self, reader=reader, wording=wording)

    def facts(self) -> dict[str, Any]:
        """What stands beside its figures."""
        return {
            "criterion": self.name,
            "version": self.version,
            "wording": self.origin,
            "source": self.source,
            "prompt_sha256": hashlib.sha256(json.dumps(vars(self.wording), sort_keys=True).encode()).hexdigest(),
            "read": self.reader.described(),
            "samples": self.samples,
            "user_given": self.wording.user,
            "reply_given": self.wording.reply,
        }
