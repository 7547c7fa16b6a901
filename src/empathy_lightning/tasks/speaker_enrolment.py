"""Speakers whose voices are known before their emotions are heard."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn

from empathy_lightning.data.batch import SpeechBatch, SpeechDataset, collate
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


class SpeakerEnrolment(L.Callback):
    """Before a training or a measurement, let the emotion nuance module hear its speakers, without their labels.

    What is measured with it holds for speakers of whom as many recordings are there, of all their moods.

    Args:
        recordings: Most of each speaker, drawn by a hash of their ids; None takes all.
    """

    def __init__(self, recordings: int | None = None) -> None:
        self.recordings = recordings

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Those who train and those who validate."""
        self._meet(trainer, pl_module, ("train", "validation"))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Those who validate, where there is no training."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._meet(trainer, pl_module, ("validation",))

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Those who test."""
        self._meet(trainer, pl_module, ("test",))

    def _meet(self, trainer: Any, task: Any, splits: Sequence[str]) -> None:
        data = trainer.datamodule
        for split in splits:
            chosen = some_of_each(data.splits[split], self.recordings)
            shown = trainer.is_global_zero
            with progress_bar(total=len(chosen), what=f"speakers of {split}", shown=shown) as progress:
                for batch in _batches(SpeechDataset(chosen, data.max_seconds), data.emotions):
                    task.model.listener.enrol(batch.to(task.device))
                    progress.update(len(batch))


def some_of_each(utterances: Sequence[Utterance], most: int | None) -> list[Utterance]:
    """At most so many utterances of each speaker, drawn by a hash of their ids; None takes all."""
    spoken: dict[tuple[str, str | None], list[Utterance]] = defaultdict(list)
    # The same recordings of a speaker, in whatever order the corpora were read.
    for utterance in sorted(utterances, key=lambda u: hashlib.sha256(f"{u.corpus} {u.id}".encode()).digest()):
        spoken[utterance.corpus, utterance.speaker].append(utterance)
    chosen: list[Utterance] = []
    for rows in spoken.values():
        chosen += rows[:most]
    return chosen


def _batches(dataset: SpeechDataset, emotions: Sequence[str], size: int = 16) -> Iterator[SpeechBatch]:
    for start in range(0, len(dataset), size):
        rows = range(start, min(start + size, len(dataset)))
        yield collate(dataset.__getitems__(list(rows)), emotions)
