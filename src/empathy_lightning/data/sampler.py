"""Which utterances go together: batches of like lengths, sharded by rank, resumable in the middle of an epoch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from empathy_lightning.data.batching import Batching, Seconds, Slots, cut, halved
from empathy_lightning.errors import InputError


class Draw(NamedTuple):
    """An utterance as it comes in an epoch.

    Attributes:
        row: Of the utterance in the dataset.
        key: Seed, epoch and place in the epoch's order: what happens to it by chance follows from these alone.
    """

    row: int
    key: tuple[int, int, int]


@dataclass(frozen=True)
class Position:
    """Where a run stands in an epoch: how many batches each process has had, under one division after the other.

    Attributes:
        epoch: Of the run, from 0.
        parts: Each division with the batches that a process has had of it; the first divides the whole epoch, each
            other one what those before it had left.
        finished: Whether the epoch is over.
        utterances: Digest of what the epoch is drawn from.
    """

    epoch: int
    parts: tuple[tuple[Batching, int], ...]
    finished: bool
    utterances: str

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        parts = [{**asdict(batching), "batches": batches} for batching, batches in self.parts]
        return {"epoch": self.epoch, "parts": parts, "finished": self.finished, "utterances": self.utterances}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Position:
        """The position that a checkpoint holds."""
        parts = []
        for part in state["parts"]:
            values = dict(part)
            batches = values.pop("batches")
            parts.append((Batching(**values), batches))
        return cls(state["epoch"], tuple(parts), state["finished"], state["utterances"])


class LengthBucketSampler(Sampler[list[Draw]]):
    """Batches of like lengths, bounded by seconds of padded audio.

    The order is shuffled, sorted by length within pools, cut into batches and the batches shuffled. Every rank draws
    the same batches and takes its own. An order depends on seed and epoch alone, so what was heard of an epoch follows
    from the number of batches and how they were divided. After a resume under another division, what is left is
    divided anew.

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
        durations: Sequence[float] | Seconds,
        batch_seconds: float,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
        weights: Sequence[float] | None = None,
        pool_batches: int = 32,
        batch_size: int | None = None,
    ) -> None:
        self.durations = np.maximum(np.asarray(durations, dtype=float), 1e-3)  # a batch's seconds are divided by it
        self.batching = Batching(batch_seconds, batch_size, pool_batches, num_replicas)
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.weights = None if weights is None else np.asarray(weights, dtype=float)
        self.epoch = 0
        self._resumed: Position | None = None
        self._begun: tuple[list[tuple[Batching, int]], int] = [], 0
        self._rounds = lru_cache(maxsize=None)(self._count_rounds)  # a cache of the class would hold all samplers

    @property
    def sampler(self) -> LengthBucketSampler:
        """Itself: where Lightning looks for the ``set_epoch`` of a batch sampler."""
        return self

    @property
    def first_epoch(self) -> int:
        """The epoch in which it goes on; 0 from the start."""
        return 0 if self._resumed is None else self._resumed.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; Lightning calls it at the start of each epoch."""
        self.epoch = epoch

    def resume(self, position: Position) -> None:
        """Leave out what was heard of an epoch.

        Raises:
            InputError: If the epoch would be drawn from other utterances.
        """
        if not position.finished and position.utterances != self.digest():
            raise InputError(
                "the checkpoint stands inside an epoch over other utterances, weights or another data.seed: "
                "resume with those, or from a checkpoint at the end of an epoch"
            )
        self._resumed = position
        parts, left = self._parts(position.epoch)
        self._begun = parts, len(self) - len(left) // self.batching.num_replicas

    def _begin(self, epoch: int) -> tuple[list[tuple[Batching, int]], int]:
        """The divisions of an epoch where it began or went on, and the batches that the last of them begins after."""
        if self._resumed is None or self._resumed.epoch != epoch:
            return [(self.batching, 0)], 0
        return self._begun

    def position(self, epoch: int, batches: int, finished: bool) -> Position:
        """Where a run stands in an epoch.

        Args:
            epoch: The epoch.
            batches: Batches that each process has had, as trainers count them: of :func:`len`.
            finished: Whether the epoch is over.
        """
        parts, before = self._begin(epoch)
        return Position(epoch, (*parts[:-1], (self.batching, batches - before)), finished, self.digest())

    def done(self, epoch: int) -> int:
        """Batches of :func:`len` that count as had when an epoch goes on."""
        parts, before = self._begin(epoch)
        return before + parts[-1][1]

    def digest(self) -> str:
        """Digest of what the epochs are drawn from."""
        digest = hashlib.sha256(f"{self.seed} {self.shuffle}".encode())
        for values in (self.durations, self.weights):
            digest.update(b"once" if values is None else values.tobytes())
        return digest.hexdigest()

    def _parts(self, epoch: int) -> tuple[list[tuple[Batching, int]], list[Slots]]:
        """The divisions of an epoch so far, this sampler's own last, and the batches of that one."""
        resumed = self._resumed
        slots = np.arange(len(self._order(epoch)))
        if resumed is None or resumed.epoch != epoch:
            return [(self.batching, 0)], self._divide(slots, epoch, self.batching, whole=True)
        parts = list(resumed.parts)
        if parts[-1][0] != self.batching:
            parts.append((self.batching, 0))
        for number, (batching, batches) in enumerate(parts[:-1]):
            divided = self._divide(slots, epoch, batching, whole=number == 0)
            heard = divided[: batches * batching.num_replicas]
            slots = np.setdiff1d(slots, np.concatenate(heard)) if heard else slots
        if resumed.finished and len(parts) > len(resumed.parts):
            slots = slots[:0]
        return parts, self._divide(slots, epoch, self.batching, whole=len(parts) == 1)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The epoch's utterances: shuffled in training, and more or less than once where there are weights."""
        order = np.arange(len(self.durations))
        if not self.shuffle:
            return order
        generator = np.random.default_rng([self.seed, epoch])
        if self.weights is not None:
            # A weight of 1.3 is once in seven epochs of ten, and twice in the others.
            times = np.floor(self.weights + generator.random(len(order))).astype(int)
            order = np.repeat(order, times)
        return generator.permutation(order)

    def _pool(self, lengths: Seconds, batching: Batching) -> int:
        """Utterances that are sorted by length together."""
        if not self.shuffle:
            return max(1, len(lengths))
        seconds = batching.pool_batches * batching.batch_seconds
        pool = max(1, round(seconds * len(lengths) / max(lengths.sum(), 1e-9)))
        return min(pool, batching.pool_batches * (batching.batch_size or pool))

    def _divide(self, slots: Slots, epoch: int, batching: Batching, whole: bool) -> list[Slots]:
        """Batches of places in the epoch's order, as many for each process: of a whole epoch, or of what is left."""
        lengths = self.durations[self._order(epoch)[slots]]
        batches = [slots[rows] for rows in cut(lengths, self._pool(lengths, batching), batching)]
        most = self._rounds(batching) * batching.num_replicas
        if len(batches) > most:
            # Sorted as a whole, they are as few as can be.
            batches = [slots[rows] for rows in cut(lengths, max(1, len(lengths)), batching)]
        wanted = most if whole else -(-len(batches) // batching.num_replicas) * batching.num_replicas
        if len(batches) < wanted:
            batches = halved(batches, wanted)
        if self.shuffle:
            random.Random(f"{self.seed} {epoch} order").shuffle(batches)
        # Ranks must take the same number of steps; the first batches fill the last round.
        return [*batches, *islice(cycle(batches), max(0, wanted - len(batches)))][: min(wanted, most)]

    def _count_rounds(self, batching: Batching) -> int:
        """Batches per epoch and rank, the same in every epoch: trainers take the first epoch's number for all."""
        counts = []
        # Epochs in another order have other batches; a few of them tell by how many.
        for epoch in range(4 if self.shuffle else 1):
            lengths = self.durations[self._order(epoch)]
            counts.append(sum(1 for _ in cut(lengths, self._pool(lengths, batching), batching)))
        spare = len(self.durations) // 10_000 if self.weights is None else max(counts) // 20
        wanted = counts[0]
        if max(counts) > min(counts):
            # Other epochs may take a few more batches than those that were tried.
            wanted = max(counts) + max(1, spare)
        if self.weights is None:  # nothing comes twice
            wanted = min(wanted, len(self.durations))
        return -(-wanted // batching.num_replicas)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order(self.epoch)
        if self._resumed is not None and self._resumed.finished and self._resumed.epoch == self.epoch:
            return
        parts, batches = self._parts(self.epoch)
        own = batches[self.rank :: self.batching.num_replicas]
        for batch in own[parts[-1][1] :]:
            yield [Draw(int(order[slot]), (self.seed, self.epoch, slot)) for slot in batch.tolist()]

    def __len__(self) -> int:
        return self._rounds(self.batching)
