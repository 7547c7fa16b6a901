import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.data.sampler import LengthBucketSampler, Position
from empathy_lightning.errors import InputError
from empathy_lightning.utterance import EMOTIONS, Utterance

DURATIONS = st.lists(st.floats(0.1, 20), min_size=1, max_size=120)


@settings(max_examples=60, deadline=None)
@given(DURATIONS, st.integers(1, 4), st.integers(0, 3), st.booleans())
def test_every_utterance_once_per_epoch_and_rank_set(durations, ranks, epoch, shuffle):
    drawn = []
    for rank in range(ranks):
        sampler = LengthBucketSampler(durations, 40, shuffle, rank=rank, num_replicas=ranks)
        sampler.set_epoch(epoch)
        drawn.append([[draw.row for draw in batch] for batch in sampler])
        assert len(drawn[-1]) == len(sampler)
    assert len({len(batches) for batches in drawn}) == 1
    together = [batch for round_ in zip(*drawn, strict=True) for batch in round_]
    distinct = list(dict.fromkeys(map(tuple, together)))
    assert sorted(index for batch in distinct for index in batch) == list(range(len(durations)))
    assert len(together) - len(distinct) < ranks
    for batch in together:
        assert len(batch) == 1 or max(durations[i] for i in batch) * len(batch) <= 40


BATCHINGS = st.tuples(st.sampled_from([5.0, 15.0, 40.0]), st.sampled_from([None, 1, 4]), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 20), min_size=1, max_size=60), st.lists(BATCHINGS, min_size=1, max_size=4), st.data())
def test_an_epoch_goes_on_with_what_was_not_heard_however_it_is_divided(durations, batchings, data):
    position, all_batches = None, []
    for number, (seconds, size, ranks) in enumerate(batchings):
        samplers = [
            LengthBucketSampler(durations, seconds, seed=3, rank=rank, num_replicas=ranks, batch_size=size)
            for rank in range(ranks)
        ]
        for sampler in samplers:
            sampler.set_epoch(2)
            if position is not None:
                sampler.resume(Position.from_state_dict(position.state_dict()))
        done, drawn = samplers[0].done(2), [list(sampler) for sampler in samplers]
        # As many as the trainer expects, so that it ends the epoch with the last of them.
        assert {len(batches) for batches in drawn} == {len(samplers[0]) - done}
        more = len(drawn[0])
        if number < len(batchings) - 1:
            more = data.draw(st.integers(0, more))
        rounds = [batches[:more] for batches in drawn]
        together = [batch for batches in rounds for batch in batches]
        for batch in together:
            assert len(batch) == 1 or max(durations[draw.row] for draw in batch) * len(batch) <= seconds
        all_batches += [tuple(draw.row for draw in batch) for batch in together]
        position = samplers[0].position(2, done + more, False)
    # Processes take equally many batches, so the last of a division may be one that another process had.
    distinct = set(all_batches)
    assert len(all_batches) - len(distinct) <= sum(ranks - 1 for _, _, ranks in batchings)
    assert Counter(index for batch in distinct for index in batch) == Counter(range(len(durations)))


def test_the_middle_of_an_epoch_over_other_utterances_is_refused():
    position = LengthBucketSampler([1.0, 2.0], 40).position(0, 0, False)
    with pytest.raises(InputError, match="resume with those"):
        LengthBucketSampler([1.0, 2.0, 3.0], 40).resume(position)
    LengthBucketSampler([1.0, 2.0, 3.0], 40).resume(replace(position, finished=True))


def test_every_epoch_has_the_same_number_of_batches():
    durations = torch.distributions.LogNormal(1.0, 0.6).sample((700,)).tolist()
    sampler, counts = LengthBucketSampler(durations, 40), set()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        counts.add(len(list(sampler)))
    assert counts == {len(sampler)}


def test_epochs_differ_and_repeat():
    sampler = LengthBucketSampler([1.0 + i % 7 for i in range(200)], 40)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_lightning_changes_the_order_each_epoch(corpus):
    import lightning as L

    from empathy_lightning.data import Manifest
    from empathy_lightning.data.datamodule import EmpathyDataModule

    class Recorder(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen = []

        def training_step(self, batch, batch_idx):
            self.seen.append((self.current_epoch, batch.ids))
            return self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Recorder()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        use_distributed_sampler=False, enable_model_summary=False,
    )  # fmt: skip
    data = EmpathyDataModule([Manifest(str(corpus))], batch_seconds=4)
    data.setup()
    trainer.fit(module, train_dataloaders=data.train_dataloader())
    epochs = [[ids for epoch, ids in module.seen if epoch == number] for number in (0, 1)]
    assert epochs[0] != epochs[1]
    assert sorted(i for ids in epochs[0] for i in ids) == sorted(i for ids in epochs[1] for i in ids)


def test_padding_stays_low_on_log_normal_durations():
    durations = torch.distributions.LogNormal(1.0, 0.6).sample((4_000,)).tolist()
    batches = [[draw.row for draw in batch] for batch in LengthBucketSampler(durations, 80)]
    padded = sum(len(batch) * max(durations[i] for i in batch) for batch in batches)
    assert 1 - sum(durations) / padded < 0.12


def test_collate_pads_and_marks_what_is_missing():
    known = Utterance("a", "c", "a.wav", emotion="happy", arousal=0.5, response="yes", units=[3])
    unknown = Utterance("b", "c", "b.wav", emotion="bored")
    batch = collate([(torch.ones(5), known), (torch.ones(3), unknown)], EMOTIONS)
    assert batch.waveform.tolist() == [[1] * 5, [1, 1, 1, 0, 0]] and batch.lengths.tolist() == [5, 3]
    assert batch.emotion.tolist() == [1, -100]
    assert batch.arousal[0] == 0.5 and math.isnan(batch.arousal[1]) and batch.valence.isnan().all()
    assert batch.responses == ["yes", None] and batch.units[1] is None
    assert len(batch.to("cpu")) == 2


def test_the_cache_gives_what_the_file_holds(corpus):
    utterances = read_manifest(corpus)[:3]
    plain, cached = SpeechDataset(utterances), SpeechDataset(utterances, cache=True)
    for index in range(3):
        first, second = cached[index][0], cached[index][0]
        assert torch.equal(first, second)
        torch.testing.assert_close(first, plain[index][0], rtol=0, atol=1e-4)
    assert SpeechDataset(utterances, max_seconds=0.1)[0][0].shape == (1_600,)


def test_another_recording_gives_the_emotion_where_one_is_named(corpus):
    first, second, third = read_manifest(corpus)[:3]
    first.emotion_path, first.emotion_start, first.emotion_end = third.path, 0.1, 0.4
    for cache in (False, True):
        dataset = SpeechDataset([first, second], cache=cache)
        batch = collate(dataset.__getitems__([0, 1]), EMOTIONS)
        pair = SpeechDataset([third])[0][0][1_600:6_400]
        assert batch.emotion_lengths.tolist() == [4_800, len(dataset[1][0])]
        torch.testing.assert_close(batch.emotion_waveform[0, :4_800], pair, rtol=0, atol=1e-4)
        assert torch.equal(batch.emotion_waveform[1, : batch.lengths[1]], batch.waveform[1, : batch.lengths[1]])
        assert not batch.emotion_waveform[0, 4_800:].any() and batch.ids == [first.id, second.id]
    assert batch.to("cpu").emotion_lengths is not None
    assert collate(SpeechDataset([second]).__getitems__([0]), EMOTIONS).emotion_waveform is None


def test_the_longer_of_the_two_recordings_fills_the_batch(corpus):
    first, second = read_manifest(corpus)[:2]
    alone = SpeechDataset([first, second]).durations()
    first.emotion_path = second.path
    assert SpeechDataset([first, second]).durations().tolist() == [max(alone), alone[1]]


def test_a_missing_pair_is_an_unreadable_utterance(corpus):
    first, second = read_manifest(corpus)[:2]
    first.emotion_path = "/nowhere.wav"
    batch = collate(SpeechDataset([first, second]).__getitems__([0, 1]), EMOTIONS)
    assert batch.ids == [second.id] and "/nowhere.wav" in batch.unreadable[0] and batch.emotion_waveform is None
