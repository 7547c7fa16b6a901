"""From utterances to batches: reading, collating, bucketing by length."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from empathy_lightning.audio import SAMPLE_RATE, duration_of, read, trim_silence
from empathy_lightning.utterance import Utterance

MISSING = -100
"""Category of an utterance without an emotion label."""


@dataclass
class SpeechBatch:
    """Utterances side by side, padded on the right.

    Attributes:
        waveform: Samples at 16 kHz in -1..1, shape (B, T), zero past each length.
        lengths: Valid samples, shape (B,).
        emotion: Category ids, shape (B,), -100 where there is no label.
        arousal: Ratings in 0..1, shape (B,), NaN where there is none.
        valence: As arousal.
        dominance: As arousal.
        transcripts: Words said, "" where unknown.
        emotions: Names of the categories, "" where unknown.
        responses: Expected replies, None where there is none.
        units: Units of the spoken replies, each (U,), None where there are none.
        ids: Ids of the utterances.
    """

    waveform: Tensor
    lengths: Tensor
    emotion: Tensor
    arousal: Tensor
    valence: Tensor
    dominance: Tensor
    transcripts: list[str]
    emotions: list[str]
    responses: list[str | None]
    units: list[Tensor | None]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpeechBatch:
        """The batch with its tensors on another device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        units = [None if u is None else u.to(device, non_blocking=non_blocking) for u in self.units]
        return replace(self, **moved, units=units)


class SpeechDataset(Dataset[tuple[Tensor, Utterance]]):
    """Waveforms of utterances at 16 kHz with their records.

    Args:
        utterances: What to read.
        max_seconds: Longer utterances are cut there.
        read_audio: False leaves the waveforms out, for trainers that need only texts and units.
        cache: Keep decoded waveforms in memory, for corpora of a few hours at most.
        trim: Cut silence off both ends.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float = 30.0,
        read_audio: bool = True,
        cache: bool = False,
        trim: bool = False,
    ) -> None:
        self.utterances = list(utterances)
        self.max_seconds = max_seconds
        self.read_audio = read_audio
        self.trim = trim
        self._cache: dict[int, Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> tuple[Tensor, Utterance]:
        utterance = self.utterances[index]
        if not self.read_audio:
            return torch.zeros(1), utterance
        if self._cache is not None and index in self._cache:
            return self._cache[index].float() / 32768, utterance
        waveform = read(utterance.path, utterance.start, utterance.end)
        waveform = (trim_silence(waveform) if self.trim else waveform)[: round(self.max_seconds * SAMPLE_RATE)]
        if self._cache is not None:
            # What is returned is what will be returned again, to the last bit.
            self._cache[index] = (waveform * 32768).round().clamp(-32768, 32767).to(torch.int16)
            waveform = self._cache[index].float() / 32768
        return waveform, utterance

    def durations(self) -> list[float]:
        """Seconds of each utterance, from its record or else from the file's header."""
        return [min(self.max_seconds, u.duration or duration_of(u.path, u.start, u.end)) for u in self.utterances]


def collate(rows: Sequence[tuple[Tensor, Utterance]], emotions: Sequence[str]) -> SpeechBatch:
    """Make a batch.

    Args:
        rows: Waveforms (T_i,) with their utterances.
        emotions: The task's categories; an emotion outside them counts as missing.
    """
    utterances = [utterance for _, utterance in rows]
    index = {name: position for position, name in enumerate(emotions)}

    def _ratings(name: str) -> Tensor:
        values = [getattr(u, name) for u in utterances]
        return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)

    return SpeechBatch(
        waveform=torch.nn.utils.rnn.pad_sequence([waveform for waveform, _ in rows], batch_first=True),
        lengths=torch.tensor([len(waveform) for waveform, _ in rows]),
        emotion=torch.tensor([index.get(u.emotion or "", MISSING) for u in utterances]),
        arousal=_ratings("arousal"),
        valence=_ratings("valence"),
        dominance=_ratings("dominance"),
        transcripts=[u.transcript or "" for u in utterances],
        emotions=[u.emotion or "" for u in utterances],
        responses=[u.response for u in utterances],
        units=[None if u.units is None else torch.tensor(u.units) for u in utterances],
        ids=[u.id for u in utterances],
    )


class LengthBucketSampler(Sampler[list[int]]):
    """Batches of like lengths, bounded by seconds of padded audio, sharded by rank.

    The order is shuffled, sorted by length within pools, cut into batches and the
    batches shuffled. Every rank draws the same batches and takes its own.

    Args:
        durations: Seconds of each utterance.
        batch_seconds: Most seconds in a batch, padding included.
        shuffle: New order every epoch; otherwise the longest come first.
        seed: Seed of the order.
        rank: This process.
        num_replicas: Number of processes.
    """

    def __init__(
        self,
        durations: Sequence[float],
        batch_seconds: float,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        self.durations = list(durations)
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas
        self.epoch = 0

    @property
    def sampler(self) -> LengthBucketSampler:
        """Itself: where Lightning looks for the ``set_epoch`` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls it at the start of each epoch."""
        self.epoch = epoch

    def _draw(self, epoch: int) -> list[list[int]]:
        generator = random.Random(f"{self.seed} {epoch}")
        order = list(range(len(self.durations)))
        pool = len(order)
        if self.shuffle:
            generator.shuffle(order)
            per_batch = self.batch_seconds * len(order) / max(sum(self.durations), 1e-9)
            pool = max(1, round(32 * per_batch))
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            batch: list[int] = []
            for index in sorted(order[start : start + pool], key=lambda i: -self.durations[i]):
                # The first of a batch is its longest, hence the width of all its rows.
                if batch and self.durations[batch[0]] * (len(batch) + 1) > self.batch_seconds:
                    batches.append(batch)
                    batch = []
                batch.append(index)
            batches.append(batch)
        return batches

    @cached_property
    def _count(self) -> int:
        """Batches per epoch and rank, the same in every epoch: trainers take the first epoch's number for all."""
        counts = [len(self._draw(epoch)) for epoch in range(4 if self.shuffle else 1)]
        wanted = max(counts) + max(1, len(self.durations) // 10_000) if max(counts) > min(counts) else counts[0]
        return -(-min(wanted, len(self.durations)) // self.num_replicas)

    def _batches(self) -> list[list[int]]:
        batches = self._draw(self.epoch)
        while len(batches) < self._count * self.num_replicas:
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            rows = batches[largest]
            if len(rows) == 1:
                break
            batches[largest : largest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch} order").shuffle(batches)
        # Ranks must take the same number of steps; the first batches fill the last round.
        return batches + list(islice(cycle(batches), max(0, self._count * self.num_replicas - len(batches))))

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches()[self.rank :: self.num_replicas])

    def __len__(self) -> int:
        return self._count
