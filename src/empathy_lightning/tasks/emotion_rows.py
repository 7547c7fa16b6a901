"""What a test hears in each utterance, for a row of figures for each corpus and language beside the pool."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch.distributed as processes
from torch import Tensor

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.metrics.emotion import Recognised
from empathy_lightning.metrics.emotion_table import group_table, means_of
from empathy_lightning.utterance import RATINGS

_LOGGED = ("unweighted_accuracy", "weighted_accuracy")


class _Row(NamedTuple):
    """An utterance with a label, as JSON values."""

    corpus: str
    language: str
    true: str
    shares: dict[str, float]
    ratings: dict[str, tuple[float | None, float | None]]


class EmotionRows:
    """Collects what is heard in labelled utterances, over batches and processes."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _Row] = {}
        self._emotions: tuple[str, ...] = ()

    def note(self, output: Any, batch: SpeechBatch) -> None:
        """Keep what was heard in a batch; nothing of a task that hears no emotion, and of utterances without label."""
        estimate = getattr(output, "emotion", None)
        if estimate is None or not batch.corpora:
            return
        self._emotions = batch.categories
        shares = estimate.logits.float().softmax(-1).tolist()
        ratings = {name: (_known(getattr(estimate, name)), _known(getattr(batch, name))) for name in RATINGS}
        for row, label in enumerate(batch.emotion.tolist()):
            # A classifier that no loss has reached says NaN.
            if label < 0 or any(math.isnan(share) for share in shares[row]):
                continue
            rated = {name: (heard[row], true[row]) for name, (heard, true) in ratings.items()}
            named = dict(zip(self._emotions, shares[row], strict=True))
            key = (batch.corpora[row], batch.ids[row])
            self._rows[key] = _Row(key[0], batch.languages[row], self._emotions[label], named, rated)

    def gathered(self) -> tuple[str, dict[str, float]]:
        """The table and the figures that are logged; both empty where there are not two corpora or languages.

        Every process has to call it; it forgets what was collected.
        """
        rows = list(self._of_all_processes().values())
        self._rows = {}
        if not rows:
            return "", {}
        recognised = _side_by_side(self._emotions, rows)
        groups = {}
        for kind in ("corpus", "language"):
            if named := recognised.by([getattr(row, kind) for row in rows]):
                groups[kind] = named
        if not groups:
            return "", {}
        logged: dict[str, float] = {}
        for kind, named in groups.items():
            for name, figures in {**named, "mean": means_of(named)}.items():
                logged |= {f"{figure}/{kind}/{name}": figures[figure] for figure in _LOGGED}
        return group_table(recognised.figures(), groups), logged

    def _of_all_processes(self) -> dict[tuple[str, str], _Row]:
        if not (processes.is_available() and processes.is_initialized()):
            return self._rows
        shares: list[Any] = [None] * processes.get_world_size()
        processes.all_gather_object(shares, (self._emotions, self._rows))
        found: dict[tuple[str, str], _Row] = {}
        for emotions, rows in shares:
            self._emotions = self._emotions or emotions
            found |= rows
        return found


def _known(values: Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _side_by_side(emotions: tuple[str, ...], rows: list[_Row]) -> Recognised:
    ratings = {}
    for name in RATINGS:
        rated = [row.ratings[name] for row in rows]
        ratings[name] = ([felt for felt, _ in rated], [true for _, true in rated])
    heard = [max(row.shares, key=row.shares.__getitem__) for row in rows]
    return Recognised(emotions, [row.true for row in rows], heard, [row.shares for row in rows], ratings)
