"""Which utterances go together: batches of like lengths, sharded by rank, resumable in the middle of an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class LengthBucketSampler(Sampler[list[int]]):
    """Batches of like lengths, bounded by seconds of padded audio.

    The order is shuffled, sorted by length within pools, cut into batches and the
    batches shuffled. Every rank draws the same batches and takes its own. An order
    depends on seed and epoch alone, so the position in an epoch is one number.

    Args:
        durations: Seconds of each utterance.
        batch_seconds: Most seconds in a batch, padding included.
        shuffle: New order every epoch; otherwise the longest come first.
        seed: Seed of the order.
        rank: This process.
        num_replicas: Number of processes.
        weights: How often each utterance comes in an epoch, on average; None stands for once each.
        pool_batches: Batches whose utterances are sorted together; fewer mix the lengths more, and pad more.
        batch_size: Most utterances in a batch; None leaves that to the seconds.
    """

    def __init__(
        self,
        durations: Sequence[float],
        batch_seconds: float,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        weights: Sequence[float] | None = None,
        pool_batches: int = 32,
        batch_size: int | None = None,
    ) -> None:
        self.durations = np.maximum(np.asarray(durations, dtype=float), 1e-3)
        self.batch_seconds = batch_seconds
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.num_replicas = num_replicas
        self.weights = None if weights is None else np.asarray(weights, dtype=float)
        self.pool_batches = pool_batches
        self.batch_size = batch_size
        self.epoch = 0
        self._resumed = (-1, 0)

    @property
    def sampler(self) -> LengthBucketSampler:
        """Itself: where Lightning looks for the ``set_epoch`` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls it at the start of each epoch."""
        self.epoch = epoch

    def resume(self, epoch: int, batches: int) -> None:
        """Leave out the batches of an epoch that this rank has had already."""
        self._resumed = (epoch, batches)

    def _order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """The epoch's utterances: shuffled in training, and more or less than once where there are weights."""
        order = np.arange(len(self.durations))
        if not self.shuffle:
            return order
        if self.weights is not None:
            order = np.repeat(order, np.floor(self.weights + generator.random(len(order))).astype(int))
        return generator.permutation(order)

    def _draw(self, epoch: int) -> list[list[int]]:
        order = self._order(np.random.default_rng([self.seed, epoch]))
        pool = max(1, len(order))
        if self.shuffle:
            total = self.durations[order].sum()
            pool = max(1, round(self.pool_batches * self.batch_seconds * len(order) / max(total, 1e-9)))
            pool = min(pool, self.pool_batches * (self.batch_size or pool))
        batches: list[list[int]] = []
        for begin in range(0, len(order), pool):
            part = order[begin : begin + pool]
            part = part[np.argsort(-self.durations[part], kind="stable")]
            start = 0
            while start < len(part):
                # The first of a batch is its longest, hence the width of all its rows.
                size = max(1, int(self.batch_seconds / self.durations[part[start]]))
                size = min(size, self.batch_size or size)
                batches.append(part[start : start + size].tolist())
                start += size
        return batches

    @cached_property
    def _count(self) -> int:
        """Batches per epoch and rank, the same in every epoch: trainers take the first epoch's number for all."""
        counts = [len(self._draw(epoch)) for epoch in range(4 if self.shuffle else 1)]
        spare = max(1, len(self.durations) // 10_000 if self.weights is None else max(counts) // 20)
        wanted = max(counts) + spare if max(counts) > min(counts) else counts[0]
        # Without weights nothing comes twice.
        return -(-(wanted if self.weights is not None else min(wanted, len(self.durations))) // self.num_replicas)

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
        epoch, had = self._resumed
        own = self._batches()[self.rank :: self.num_replicas][: self._count]
        return iter(own[had if epoch == self.epoch else 0 :])

    def __len__(self) -> int:
        return self._count
