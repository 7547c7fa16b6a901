"""One DataModule for every trainer."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from itertools import chain
from typing import Any, Literal

import lightning as L
import torch

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.augmentation import Augmentation
from empathy_lightning.data.batch import SpeechBatch, SpeechDataset, collate
from empathy_lightning.data.batching import Seconds
from empathy_lightning.data.left_out import MOST, Tally, in_task, refuse_untaught
from empathy_lightning.data.mixture import (
    Answer,
    MixedIn,
    answered,
    read_corpora,
    read_mixed,
    refuse_absent,
    times_per_epoch,
    with_random_voices,
)
from empathy_lightning.data.packed import Packed, packed
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.data.published import protocol_named
from empathy_lightning.data.resumable_loader import ResumableLoader
from empathy_lightning.data.sampler import LengthBucketSampler, Position
from empathy_lightning.errors import InputError
from empathy_lightning.faults import cut
from empathy_lightning.utterance import EMOTIONS

_SPLITS = ("train", "validation", "test")


class EmpathyDataModule(L.LightningDataModule):
    """Utterances of one or more corpora in length-bucketed batches.

    Set ``use_distributed_sampler: false`` on the Trainer: the sampler shards by rank itself. A checkpoint knows which
    utterances of its epoch were heard; a run that is resumed goes on with the others, in other batches or processes
    too. An utterance that cannot be read costs a warning and itself only.

    Args:
        corpora: Where the utterances come from.
        protocol: Who trains and who tests: a published protocol by name, or one with its arguments; None takes the
            corpora's own splits. Where it leaves no validation split, one training speaker in twenty
            validates, or one utterance in twenty where speakers are few.
        weights: How often the utterances of a corpus come in an epoch, by the corpus's name; once where not given.
        emotions: The task's categories in the order of the classifier; others count as unlabelled.
        batch_seconds: Most seconds of audio in a batch, padding included.
        batch_size: Most utterances in a batch; None leaves that to the seconds.
        mixed_in: Other tasks in the same training batches, each with its share, prompt and answer.
        answer: What the language model is to say: the prepared ``response``, the name of the ``emotion``, as in
            FreezeEmpath's pretraining on recognition, or the ``transcript``.
        emotion_voice: ``random`` lets the emotion be heard in another utterance of the split, an ablation.
        pool_batches: Batches whose utterances are sorted by length together. Where length goes with emotion and a
            module normalises over the batch, take few.
        max_seconds: Longer utterances are cut there.
        read_audio: False for trainers that need only texts and units.
        cache: Keep decoded waveforms in memory (2 bytes a sample).
        augmentation: Changes to the training waveforms; None leaves them as they are.
        max_unreadable: Share of a split's utterances that may be unreadable before the run stops.
        max_left_out: Share of the utterances that may lack a file, or have a label that is no emotion word.
        allow_empty_classes: Whether one of the emotions may have no training utterance where emotions are learnt.
        num_workers: Loader processes.
        seed: Seed of the order of the batches.
    """

    def __init__(
        self,
        corpora: list[Corpus],
        protocol: Protocol | str | None = None,
        weights: dict[str, float] | None = None,
        mixed_in: list[MixedIn] | None = None,
        emotions: list[str] = list(EMOTIONS),  # noqa: B006 - never changed, and shown by --help
        batch_seconds: float = 80.0,
        batch_size: int | None = None,
        answer: Answer = "response",
        emotion_voice: Literal["own", "random"] = "own",
        pool_batches: int = 32,
        max_seconds: float = 30.0,
        read_audio: bool = True,
        cache: bool = False,
        augmentation: Augmentation | None = None,
        max_unreadable: float = 0.05,
        max_left_out: float = MOST,
        allow_empty_classes: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value is not None and value < least:
                raise InputError(f"data.{name} is {value}: give at least {least}")
        for name, seconds in (("batch_seconds", batch_seconds), ("max_seconds", max_seconds)):
            if not seconds > 0:
                raise InputError(f"data.{name} is {seconds}: give more than 0 seconds")
        for name, share in (("max_unreadable", max_unreadable), ("max_left_out", max_left_out)):
            if not 0 <= share <= 1:
                raise InputError(f"data.{name} is {share}: give a share in 0..1")
        self.corpora = corpora
        self.protocol = protocol_named(protocol) if isinstance(protocol, str) else protocol
        self.weights = weights or {}
        self.mixed_in = mixed_in or []
        self.emotions = emotions
        self.batch_seconds = batch_seconds
        self.batch_size = batch_size
        self.answer = answer
        self.emotion_voice = emotion_voice
        self.pool_batches = pool_batches
        self.max_seconds = max_seconds
        self.read_audio = read_audio
        self.cache = cache
        self.augmentation = augmentation
        self.max_unreadable = max_unreadable
        self.max_left_out = max_left_out
        self.allow_empty_classes = allow_empty_classes
        self.num_workers = num_workers
        self.seed = seed
        self.splits: dict[str, Packed] = {}
        self.mixed: list[Packed] = []
        self.unreadable: dict[str, list[str]] = {split: [] for split in _SPLITS}
        self.position: Position | None = None
        self.learns_emotions = False
        """Whether labels are learnt, where :meth:`setup` comes before there is a task that knows."""
        self._tally = Tally()
        self._drawn: dict[str, tuple[SpeechDataset, Seconds, list[float] | None]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the corpora once, say what was read, and refuse what would train on too little of it.

        Raises:
            CorpusError: If a corpus is missing, an utterance has no split and no protocol gives it one, too much is
                left out, or one of the emotions that are to be learnt has no training utterance.
        """
        tally, told = self._tally, bool(self.splits)
        if not self.splits:
            self.splits = self._read(tally)
        self.position = None
        self._drawn.clear()
        if stage in (None, "fit") and not self.mixed:
            held_out = chain(self.splits["validation"], self.splits["test"])
            self.mixed = read_mixed(self.mixed_in, self.emotions, tally, self.read_audio, held_out)
        if not told and (self.trainer is None or self.trainer.is_global_zero):
            print(tally.describe(), file=sys.stderr)
        tally.refuse_above(self.max_left_out, "--data.max_left_out", self._learns_emotions())
        if stage in (None, "fit") and self._learns_emotions() and not self.allow_empty_classes:
            self._refuse_empty_classes()

    def _read(self, tally: Tally) -> dict[str, Packed]:
        read = read_corpora(self.corpora, self.protocol, "data.protocol", tally, self.read_audio)
        refuse_absent(self.weights, read)
        utterances = packed(answered(in_task(read, self.emotions, tally), self.answer, self.emotions))
        if not utterances.where("split", "validation"):
            utterances = packed((self.protocol or Protocol()).hold_out(utterances, 0.05))
        splits = {split: utterances.where("split", split) for split in _SPLITS}
        tally.drop(len(utterances) - sum(map(len, splits.values())), "of further test sets")
        return splits

    def _learns_emotions(self) -> bool:
        task = self.trainer.lightning_module if self.trainer else self
        return self.answer == "emotion" or bool(getattr(task, "learns_emotions", False))

    def _refuse_empty_classes(self) -> None:
        training = [self.splits["train"], *self.mixed]
        if not any(training):
            counts = ", ".join(f"{name} {len(utterances)}" for name, utterances in self.splits.items())
            raise CorpusError(f"data.corpora: no utterance is in the training split ({counts})")
        labels = chain.from_iterable(rows.each("emotion", "emotion_votes") for rows in training)
        refuse_untaught(labels, self.emotions, self.protocol.emotions if self.protocol is not None else None)

    def train_dataloader(self) -> Any:
        """Shuffled batches of the training split."""
        return self._loader("train")

    def val_dataloader(self) -> Any:
        """Batches of the validation split."""
        return self._loader("validation")

    def test_dataloader(self) -> Any:
        """Batches of the test split."""
        return self._loader("test")

    def _loader(self, split: str) -> Any:
        return ResumableLoader(
            self._dataset(split)[0],
            batch_sampler=self.sampler(split),
            collate_fn=partial(collate, emotions=self.emotions),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
            trainer=self.trainer,
        )

    def sampler(self, split: str) -> LengthBucketSampler:
        """The batches of a split, in training from a checkpoint's position on."""
        _, durations, times = self._dataset(split)
        sampler = LengthBucketSampler(
            durations,
            self.batch_seconds,
            shuffle=split == "train",
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_replicas=self.trainer.world_size if self.trainer else 1,
            weights=times,
            pool_batches=self.pool_batches,
            batch_size=self.batch_size,
        )
        if split == "train" and self.position is not None:
            sampler.resume(self.position)
        return sampler

    def _dataset(self, split: str) -> tuple[SpeechDataset, Seconds, list[float] | None]:
        """What a split is drawn from: utterances, their seconds, and how often each comes; None where that is once."""
        if split in self._drawn:
            return self._drawn[split]
        utterances = self.splits[split]
        if not utterances:
            raise CorpusError(f"the corpora hold no utterance in the {split} split")
        if self.emotion_voice == "random":
            utterances = packed(with_random_voices(utterances, self.seed))
        times = [self.weights.get(corpus, 1.0) for (corpus,) in utterances.each("corpus")]
        if split == "train":
            shares = [(task.share, len(rows)) for task, rows in zip(self.mixed_in, self.mixed, strict=False)]
            times = times_per_epoch(times, shares)
            utterances = packed(chain(utterances, *self.mixed)) if any(self.mixed) else utterances
        augmentation = self.augmentation if split == "train" else None
        how = (self.max_seconds, self.read_audio, self.cache, augmentation, self._sample_rate())
        dataset = SpeechDataset(utterances, *how)
        self._drawn[split] = dataset, dataset.durations(), times if self.weights or any(self.mixed) else None
        return self._drawn[split]

    def _sample_rate(self) -> int:
        """A vocoder learns at its own rate; all others hear 16 kHz."""
        task = self.trainer.lightning_module if self.trainer else None
        rate = int(getattr(task, "sample_rate", SAMPLE_RATE))
        if rate != SAMPLE_RATE and self.augmentation is not None:
            raise InputError(f"data.augmentation is made for {SAMPLE_RATE} Hz: leave it out at {rate}")
        return rate

    def state_dict(self) -> dict[str, Any]:
        """Where the training stands: the optimiser steps that were made, and what was heard for them."""
        trainer = self.trainer
        sampler = getattr(getattr(trainer, "train_dataloader", None), "batch_sampler", None)
        if trainer is None or not isinstance(sampler, LengthBucketSampler):
            return {}
        epochs: Any = trainer.fit_loop.epoch_progress.current
        epoch = epochs.ready - 1
        if epoch < 0:
            return {}
        if epochs.started < epochs.ready:  # the counts are still those of the epoch before
            return sampler.position(epoch, 0, False).state_dict()
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        batches = progress.processed
        finished = batches >= trainer.num_training_batches
        # What was heard since the last step of the optimiser is not in the weights: it is heard again.
        rewound = max(batches - batches % trainer.accumulate_grad_batches, sampler.done(epoch))
        return sampler.position(epoch, batches if finished else rewound, finished).state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's position; loaders that are made after this leave out what was heard."""
        self.position = Position.from_state_dict(state_dict)

    def transfer_batch_to_device(self, batch: SpeechBatch, device: torch.device, dataloader_idx: int) -> SpeechBatch:
        """Move a batch's tensors, and keep count of what could not be read.

        Raises:
            CorpusError: If too much could not be read.
        """
        split = self._split_at_work()
        unreadable = self.unreadable[split]
        for reason in batch.unreadable:
            if reason not in unreadable:
                unreadable.append(reason)
                warnings.warn(f"left out: {reason}", stacklevel=2)
        whole = len(self.splits[split])
        whole += sum(map(len, self.mixed)) if split == "train" else 0
        if len(unreadable) > self.max_unreadable * whole:
            files = f"{len(unreadable):,} of {whole:,} files of the {split} split"
            said = f"{files} cannot be read: {'; '.join(unreadable)}"
            advice = f"mend them, or allow it with --data.max_unreadable {len(unreadable) / whole + 0.005:.2f}"
            raise CorpusError(f"{cut(said, 297 - len(advice))}; {advice}")
        return batch.to(device, non_blocking=True)

    def _split_at_work(self) -> str:
        if self.trainer is None or self.trainer.training:
            return "train"
        return "test" if self.trainer.testing else "validation"

    def report_unreadable(self) -> None:
        """Say how many files could not be read; trainers call it at the end of an epoch."""
        if count := sum(map(len, self.unreadable.values())):
            warnings.warn(f"{count} unreadable file(s) left out so far", stacklevel=2)
