"""One DataModule for every trainer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from empathy_lightning.batch import LengthBucketSampler, SpeechBatch, SpeechDataset, collate
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.utterance import EMOTIONS, Utterance


class EmpathyDataModule(L.LightningDataModule):
    """Utterances of one or more corpora in length-bucketed batches.

    Set ``use_distributed_sampler: false`` on the Trainer: the sampler shards by rank itself.

    Args:
        corpora: Where the utterances come from; each states its splits.
        emotions: The task's categories in the order of the classifier; others count as unlabelled.
        batch_seconds: Most seconds of audio in a batch, padding included.
        max_seconds: Longer utterances are cut there.
        read_audio: False for trainers that need only texts and units.
        cache: Keep decoded waveforms in memory (2 bytes a sample).
        trim: Cut silence off both ends of each utterance.
        num_workers: Loader processes.
        seed: Seed of the order of the batches.
    """

    def __init__(
        self,
        corpora: list[Corpus],
        emotions: list[str] = list(EMOTIONS),  # noqa: B006 - never changed, and shown by --help
        batch_seconds: float = 80.0,
        max_seconds: float = 30.0,
        read_audio: bool = True,
        cache: bool = False,
        trim: bool = False,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.corpora = corpora
        self.emotions = emotions
        self.batch_seconds = batch_seconds
        self.max_seconds = max_seconds
        self.read_audio = read_audio
        self.cache = cache
        self.trim = trim
        self.num_workers = num_workers
        self.seed = seed
        self.splits: dict[str, list[Utterance]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the corpora once."""
        if self.splits:
            return
        self.splits = {"train": [], "validation": [], "test": []}
        for corpus in self.corpora:
            for utterance in corpus.utterances():
                if utterance.split not in self.splits:
                    raise CorpusError(f"{utterance.id}: split {utterance.split!r} is none of train, validation, test")
                self.splits[utterance.split].append(utterance)

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
        utterances: Sequence[Utterance] = self.splits[split]
        if not utterances:
            raise CorpusError(f"the corpora hold no utterance in the {split} split")
        dataset = SpeechDataset(utterances, self.max_seconds, self.read_audio, self.cache, self.trim)
        sampler = LengthBucketSampler(
            dataset.durations(),
            self.batch_seconds,
            shuffle=split == "train",
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            num_replicas=self.trainer.world_size if self.trainer else 1,
        )
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=partial(collate, emotions=self.emotions),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def transfer_batch_to_device(self, batch: SpeechBatch, device: torch.device, dataloader_idx: int) -> SpeechBatch:
        """Move a batch's tensors."""
        return batch.to(device, non_blocking=True)
