from collections import Counter
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from empathy_lightning.audio import AudioError
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.augmentation import Augmentation
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.tasks.task import TrainedPartsTask
from tests.conftest import whisper_config
from tests.tiny import adamw


def test_each_split_has_its_own_utterances(corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4)
    data.setup()
    seen = {}
    for name, loader in (
        ("train", data.train_dataloader()),
        ("validation", data.val_dataloader()),
        ("test", data.test_dataloader()),
    ):
        batches = list(loader)
        seen[name] = [id_ for batch in batches for id_ in batch.ids]
        for batch in batches:
            assert len(batch) == 1 or batch.waveform.numel() <= 4.01 * 16_000
            assert batch.lengths.max() == batch.waveform.shape[1]
            assert (batch.waveform[torch.arange(batch.waveform.shape[1]) >= batch.lengths[:, None]] == 0).all()
    expected = {s: sorted(u.id for u in read_manifest(corpus) if u.split == s) for s in seen}
    assert {name: sorted(ids) for name, ids in seen.items()} == expected


def test_worker_processes_read_the_same(corpus):
    def batches(workers):
        data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4, num_workers=workers)
        data.setup()
        return [(batch.ids, batch.waveform.sum().item()) for batch in data.train_dataloader()]

    assert batches(0) == batches(2)


def test_a_batch_has_no_more_utterances_than_asked_for(corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=1_000, batch_size=3)
    data.setup()
    sizes = [len(batch) for batch in data.train_dataloader()]
    assert max(sizes) == 3 and sum(sizes) == 20 and len(sizes) == 7


def test_the_answer_can_be_the_emotions_name(corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], answer="emotion")
    data.setup()
    for batch in data.train_dataloader():
        assert batch.responses == batch.emotions


def test_emotions_outside_the_task_are_unlabelled(corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], emotions=["sad", "happy"])
    data.setup()
    (batch,) = data.test_dataloader()
    names = dict(zip(batch.ids, batch.emotions, strict=True))
    for id_, emotion in zip(batch.ids, batch.emotion.tolist(), strict=True):
        assert emotion == {"sad": 0, "happy": 1}.get(names[id_], -100)


@pytest.mark.parametrize(
    "option", [{"max_unreadable": float("nan")}, {"max_left_out": 3.0}, {"batch_seconds": 0.0}, {"batch_size": 0}]
)
def test_a_number_that_is_none_is_refused(corpus, option):
    """A share that is NaN would never stop a run."""
    with pytest.raises(InputError, match=f"data.{next(iter(option))} is "):
        EmpathyDataModule([Manifest(corpus)], **option)


def test_a_corpus_without_splits_is_refused(tmp_path, corpus):
    utterances = read_manifest(corpus)
    for utterance in utterances:
        utterance.split = None
    write_manifest(tmp_path / "m.jsonl", utterances)
    with pytest.raises(CorpusError, match="no splits of its own"):
        EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))]).setup()


def test_an_empty_split_is_named(tmp_path, corpus):
    write_manifest(tmp_path / "m.jsonl", [u for u in read_manifest(corpus) if u.split == "train"])
    data = EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))])
    data.setup()
    with pytest.raises(CorpusError, match="no utterance in the test split"):
        data.test_dataloader()
    assert {name for batch in data.val_dataloader() for name in batch.ids} == {u.id for u in data.splits["validation"]}


def test_two_epochs_encode_each_utterance_once(corpus):
    encoder = SpeechEncoder(whisper_config())
    cached, rows = CachedSpeechEncoder(encoder), []
    encoder.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4, cache=True)
    data.setup()
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            cached(batch.waveform, batch.lengths)
    assert sum(rows) == 20


class Recorder(TrainedPartsTask):
    """Remembers which utterances it trained on, and stops itself where it is told."""

    def __init__(self, stop_after=None):
        super().__init__(torch.nn.Identity(), adamw(0.1))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop_after = stop_after
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(batch.ids)))
        return (self.weight - len(batch)).square().sum()

    def validation_step(self, batch, batch_idx):
        pass

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.stop_after is not None and self.global_step == self.stop_after:
            raise KeyboardInterrupt

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(corpus, folder, module, resume=None, workers=0):
    checkpoint = ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, callbacks=[checkpoint],
    )  # fmt: skip
    data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=3, num_workers=workers)
    trainer.fit(module, data, ckpt_path=resume, weights_only=False)
    return module


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop_after", [1, 4, 9, 11])
def test_a_run_stopped_anywhere_ends_as_one_that_was_not(corpus, tmp_path, stop_after, workers):
    whole = fit(corpus, tmp_path / "whole", Recorder())
    stopped = Recorder(stop_after)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(corpus, tmp_path / "part", stopped, workers=workers)
    resumed = fit(corpus, tmp_path / "part", Recorder(), str(tmp_path / "part" / "last.ckpt"), workers)
    # What was done after the last checkpoint is done again; nothing else is, and nothing is left out.
    done = len(whole.seen) - len(resumed.seen)
    assert stop_after - 1 <= done <= stop_after
    assert stopped.seen[:done] + resumed.seen == whole.seen
    assert torch.equal(resumed.weight, whole.weight)


def with_bad_files(corpus, folder, count):
    """The corpus with its first training files replaced by what is not audio."""
    utterances = read_manifest(corpus)
    for index, utterance in enumerate(u for u in utterances if u.split == "train"):
        if index < count:
            utterance.path = str(folder / f"bad{index}.wav")
            Path(utterance.path).write_bytes(b"RIFF of nothing")
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"


def test_an_unreadable_file_costs_itself_and_a_warning(corpus, tmp_path):
    data = EmpathyDataModule([Manifest(str(with_bad_files(corpus, tmp_path, 2)))], batch_seconds=4, max_unreadable=0.1)
    module = Recorder()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"left out: .*bad0.wav"):
        trainer.fit(module, data)
    seen = [id_ for _, ids in module.seen for id_ in ids]
    good = [u.id for u in read_manifest(corpus) if u.split == "train"][2:]
    assert sorted(seen) == sorted(good) and len(data.unreadable["train"]) == 2
    with pytest.warns(UserWarning, match=r"2 unreadable file\(s\) left out so far"):
        data.report_unreadable()


def test_too_many_unreadable_files_stop_the_run_with_their_names(corpus, tmp_path):
    data = EmpathyDataModule([Manifest(str(with_bad_files(corpus, tmp_path, 8)))], batch_seconds=4, max_unreadable=0.1)
    data.setup()
    with (
        pytest.warns(UserWarning),
        pytest.raises(CorpusError, match=r" of 20 files of the train split cannot be read: .*bad\d.wav"),
    ):
        for batch in data.train_dataloader():
            data.transfer_batch_to_device(batch, torch.device("cpu"), 0)


def test_a_batch_of_bad_files_borrows_a_good_utterance(corpus, tmp_path):
    manifest = with_bad_files(corpus, tmp_path, 3)
    dataset = SpeechDataset([u for u in read_manifest(manifest) if u.split == "train"])
    batch = collate(dataset.__getitems__([0, 1]), ["happy"])
    assert len(batch) == 1 and len(batch.unreadable) == 3
    # It only fills the place, and counts for nothing.
    assert batch.emotion.tolist() == [-100] and batch.responses == [None] and batch.arousal.isnan().all()
    with pytest.raises(AudioError):
        SpeechDataset(dataset.utterances[:3]).__getitems__([0, 1])


def test_a_protocol_gives_the_splits(corpus, tmp_path):
    utterances = read_manifest(corpus)
    for utterance in utterances:
        utterance.split = None
    write_manifest(tmp_path / "m.parquet", utterances)
    data = EmpathyDataModule([Manifest(str(tmp_path / "m.parquet"))], protocol="leave-one-speaker-out")
    data.setup()
    speakers = {split: {u.speaker for u in rows} for split, rows in data.splits.items()}
    assert speakers["test"] == {"0"} and speakers["validation"] == {"1"} and len(speakers["train"]) == 4


def test_weights_change_how_often_a_corpus_comes(corpus, tmp_path):
    other = read_manifest(corpus)
    for utterance in other:
        utterance.corpus = "other"
    write_manifest(tmp_path / "m.jsonl", other)
    both = [Manifest(str(corpus)), Manifest(str(tmp_path / "m.jsonl"))]
    data = EmpathyDataModule(both, weights={"tones": 2.0, "other": 0.5}, batch_seconds=4)
    data.setup()
    loader, counts = data.train_dataloader(), Counter()
    names = [u.corpus for u in data.splits["train"]]
    for epoch in range(20):
        loader.batch_sampler.set_epoch(epoch)
        counts.update(names[draw.row] for batch in loader.batch_sampler for draw in batch)
    assert abs(counts["tones"] / (20 * 20) - 2.0) < 0.2 and abs(counts["other"] / (20 * 20) - 0.5) < 0.15
    with pytest.raises(CorpusError, match="no corpus that is here: nobody"):
        EmpathyDataModule(both, weights={"nobody": 2.0}).setup()


def test_only_training_waveforms_are_augmented(corpus):
    class Louder(Augmentation):
        def __call__(self, waveform):
            return 2 * waveform

    plain = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4)
    louder = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4, augmentation=Louder())
    for data in (plain, louder):
        data.setup()
    for name, factor in (("train_dataloader", 2), ("val_dataloader", 1), ("test_dataloader", 1)):
        for a, b in zip(getattr(plain, name)(), getattr(louder, name)(), strict=True):
            torch.testing.assert_close(factor * a.waveform, b.waveform)
