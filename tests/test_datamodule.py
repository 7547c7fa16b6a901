import pytest
import torch

from empathy_lightning.corpora import CorpusError, Manifest, read_manifest, write_manifest
from empathy_lightning.datamodule import EmpathyDataModule
from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from tests.conftest import whisper_config


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


def test_emotions_outside_the_task_are_unlabelled(corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], emotions=["sad", "happy"])
    data.setup()
    (batch,) = data.test_dataloader()
    names = dict(zip(batch.ids, batch.emotions, strict=True))
    for id_, emotion in zip(batch.ids, batch.emotion.tolist(), strict=True):
        assert emotion == {"sad": 0, "happy": 1}.get(names[id_], -100)


def test_a_corpus_without_splits_is_refused(tmp_path, corpus):
    utterances = read_manifest(corpus)
    for utterance in utterances:
        utterance.split = None
    write_manifest(tmp_path / "m.jsonl", utterances)
    with pytest.raises(CorpusError, match="split None is none of"):
        EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))]).setup()


def test_an_empty_split_is_named(tmp_path, corpus):
    write_manifest(tmp_path / "m.jsonl", [u for u in read_manifest(corpus) if u.split == "train"])
    data = EmpathyDataModule([Manifest(str(tmp_path / "m.jsonl"))])
    data.setup()
    with pytest.raises(CorpusError, match="validation"):
        data.val_dataloader()


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
