"""Which emotion the replies name in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.parsing import parse_words
from empathy_lightning.utterance import EMOTIONS, Utterance


class NamedEmotions:
    """Whether a reply names the speaker's labelled emotion, another one, or none or several.

    Whole words and synonyms count (:func:`.parsing.parse_words`): "I would be happy to help" names happiness. The
    categories are the five of FreezeEmpath and the labels that are there.
    """

    name = "named_emotions"
    needs = ("emotion",)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with what is ``named``, and 1 under ``own``, ``another`` or ``none``."""
        emotions = sorted({*EMOTIONS, *(reply.emotion or "" for reply in replies)})
        rows: list[dict[str, Any] | None] = []
        for reply in replies:
            named = parse_words(reply.response or "", emotions)
            own, none = named == reply.emotion, named is None
            rows.append({"named": named, "own": int(own), "another": int(not own and not none), "none": int(none)})
        return Measured(rows, {})
