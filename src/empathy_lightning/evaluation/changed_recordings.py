"""Which recordings are other ones than those that were answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empathy_lightning.digests import recordings_digest
from empathy_lightning.evaluation.made_from import recordings_of
from empathy_lightning.files import file_of
from empathy_lightning.preparation.answers import AnswerShard
from empathy_lightning.utterance import Utterance

_HEARD = "recordings"
"""Raw label of a shard's row that tells the recordings as they were when they were answered."""


def with_state(utterances: Sequence[Utterance], answer: AnswerShard, progress: Any, home: Path) -> list[Utterance]:
    """The answers, each with the state of its recordings before they were read."""
    # Taken first: what changes while it is answered counts as changed.
    states = [recordings_digest(recordings_of(u), home) for u in utterances]
    answered = zip(answer(utterances, progress), states, strict=True)
    return [replace(row, raw_labels={**row.raw_labels, _HEARD: state}) for row, state in answered]


def is_changed(utterance: Utterance, row: Utterance, home: Path) -> bool:
    """Whether a recording is another one than a shard's row was answered from; one that is gone is not."""
    paths = recordings_of(utterance)
    there = all(os.path.isfile(file_of(path)) for path in paths)
    return there and row.raw_labels.get(_HEARD) != recordings_digest(paths, home)
