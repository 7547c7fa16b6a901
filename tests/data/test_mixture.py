import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.left_out import Tally
from empathy_lightning.data.mixture import MixedIn, times_per_epoch, with_random_voices
from empathy_lightning.errors import InputError
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.tiny import filled

QUESTION = "Name the tone: {speech}"


def epochs(data, count):
    """Utterances of some epochs as the sampler draws them, without reading audio."""
    loader = data.train_dataloader()
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        yield from (loader.dataset.utterances[d.row] for batch in loader.batch_sampler for d in batch)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_manifest_keeps_the_prompts(form, corpus, tmp_path):
    plain, own = read_manifest(corpus)[:2]
    own = replace(own, prompt=QUESTION, system="You are a judge.")
    write_manifest(tmp_path / f"m.{form}", [plain, own])
    assert read_manifest(tmp_path / f"m.{form}") == [plain, own]


@pytest.mark.parametrize("wrong", [{"prompt": "Name the tone."}, {"prompt": ""}, {"system": "You are a judge."}])
def test_a_prompt_that_cannot_be_filled_is_refused_with_its_line(wrong, corpus, tmp_path):
    row = json.loads(corpus.read_text().splitlines()[0]) | wrong
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    with pytest.raises(CorpusError, match=r"line 1: (prompt has no|system is given without)"):
        read_manifest(tmp_path / "m.jsonl")
    with pytest.raises(InputError, match="slot"):
        MixedIn([], 0.5, **wrong)


def test_a_task_has_its_share_of_training_and_no_part_in_validation(corpus, tmp_path):
    rows = [replace(u, corpus="emotional", id=f"e{i}") for i in range(5) for u in read_manifest(corpus)]
    for index, row in enumerate(rows):
        row.id = str(index)
    rows[0].emotion, rows[1].emotion = None, "afraid"
    write_manifest(tmp_path / "m.jsonl", rows)
    task = MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.2, QUESTION, answer="emotion")
    data = EmpathyDataModule([Manifest(str(corpus))], weights={"tones": 2.0}, mixed_in=[task], batch_seconds=4)
    data.setup("fit")
    seen = list(epochs(data, 40))
    counts = Counter(u.corpus for u in seen)
    assert counts["tones"] == 40 * 2 * 20
    # A draw of 10 of 98 utterances per epoch, on average: the deviation of the sum over 40 epochs is 19.
    assert abs(counts["emotional"] - 40 * 10) < 80
    for u in seen:
        assert (u.prompt, u.response == u.emotion) == ((QUESTION, True) if u.corpus == "emotional" else (None, False))
    assert not {"0", "1"} & {u.id for u in seen if u.corpus == "emotional"}
    assert {u.split for u in seen} == {"train"}
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(batch.prompts == [] for batch in loader)
    mixed = [batch for batch in data.train_dataloader() if batch.prompts]
    assert any(set(batch.prompts) == {None, Prompt(QUESTION)} for batch in mixed)


def test_what_validates_or_tests_is_not_mixed_into_training(corpus, tmp_path, capsys):
    rows = read_manifest(corpus)
    held_out = {u.path for u in rows if u.split != "train"}
    pair = replace(rows[0], id="pair", emotion_path=rows[-1].path)
    write_manifest(tmp_path / "m.jsonl", [*(replace(u, split="train") for u in rows), pair])
    task = MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.5)
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[task])
    data.setup("fit")
    assert "11 of data.mixed_in that validate or test" in capsys.readouterr().err
    assert len(held_out) == 10 and len(data.mixed[0]) == 20
    assert not any({u.path, u.emotion_path} & held_out for u in data.mixed[0])


def test_a_share_is_kept_with_batches_of_one_and_few_recordings(corpus, tmp_path):
    write_manifest(tmp_path / "m.jsonl", [replace(read_manifest(corpus)[0], corpus="one")])
    task = MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.8)
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[task], batch_size=1)
    data.setup("fit")
    for epoch in range(3):
        data.train_dataloader().batch_sampler.set_epoch(epoch)
        counts = Counter(u.corpus for u in epochs(data, 1))
        assert counts["tones"] >= 20 and 70 <= counts["one"] <= 90


def test_rows_keep_the_prompts_of_their_manifest(corpus, tmp_path):
    rows = [replace(u, prompt=QUESTION, response="hm") for u in read_manifest(corpus)]
    write_manifest(tmp_path / "m.jsonl", rows)
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.5)])
    data.setup("fit")
    assert {(u.prompt, u.response == "hm") for u in epochs(data, 3)} == {(None, False), (QUESTION, True)}


def test_words_said_can_be_the_answer(corpus):
    task = MixedIn([Manifest(str(corpus))], 0.5, "Write down: {speech}", answer="transcript")
    (row, *_) = task.utterances(EMOTIONS, Tally())
    assert row.response == row.transcript and row.units is None


def test_what_is_not_trained_on_is_not_read(corpus, tmp_path):
    missing = Manifest(str(tmp_path / "nothing.jsonl"))
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[MixedIn([missing], 0.0)])
    data.setup("fit")
    assert {u.corpus for u in epochs(data, 2)} == {"tones"}
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[MixedIn([missing], 0.1)])
    data.setup("validate")
    assert len(list(data.val_dataloader())) > 0
    with pytest.raises(CorpusError, match="no manifest at"):
        data.setup("fit")


def test_a_mixture_that_cannot_be_is_refused(corpus, tmp_path):
    for share in (1.0, -0.1):
        with pytest.raises(InputError, match="share"):
            MixedIn([], share)
    half = MixedIn([Manifest(str(corpus))], 0.5)
    data = EmpathyDataModule([Manifest(str(corpus))], mixed_in=[half, half])
    data.setup("fit")
    with pytest.raises(InputError, match="leaves nothing"):
        data.train_dataloader()
    rows = [replace(u, emotion="afraid") for u in read_manifest(corpus)]
    write_manifest(tmp_path / "m.jsonl", rows)
    with pytest.raises(CorpusError, match="no training utterance has the emotion"):
        MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.5, QUESTION, answer="emotion").utterances(EMOTIONS, Tally())
    write_manifest(tmp_path / "m.jsonl", [replace(u, split=None) for u in rows])
    with pytest.raises(CorpusError, match=r"no splits of its own .* protocol in data.mixed_in"):
        MixedIn([Manifest(str(tmp_path / "m.jsonl"))], 0.5).utterances(EMOTIONS, Tally())


def test_two_tasks_have_their_shares():
    times = times_per_epoch([2.0, 1.0, 1.0], [(0.2, 3), (0.3, 1)])
    assert sum(times[3:6]) / sum(times) == pytest.approx(0.2) and times[6] / sum(times) == pytest.approx(0.3)


def voice(utterance):
    return utterance.emotion_path or utterance.path


def test_a_random_voice_is_another_s_and_the_same_whatever_is_beside(corpus):
    utterances = read_manifest(corpus)
    utterances[3] = replace(utterances[3], emotion_path=utterances[9].path, emotion="angry")
    drawn = with_random_voices(utterances)
    by_path = {voice(u): u for u in utterances if u.emotion_path is None}
    for before, after in zip(utterances, drawn, strict=True):
        donor = by_path[after.emotion_path]
        assert after.emotion_path != voice(before) and (after.path, after.response) == (before.path, before.response)
        if after.emotion_path != utterances[9].path:
            assert (after.emotion, after.valence) == (donor.emotion, donor.valence)
            assert after.emotion_id == f"tones/{donor.id}"
    turned = with_random_voices(utterances[::-1])[::-1]
    assert [u.emotion_path for u in turned] == [u.emotion_path for u in drawn]
    other = with_random_voices(utterances, seed=1)
    assert sum(a.emotion_path == b.emotion_path for a, b in zip(drawn, other, strict=True)) < 8


def test_random_voices_are_uniform_over_the_others():
    utterances = [Utterance(str(i), "c", f"{i % 4}.wav") for i in range(4_000)]
    counts = Counter((u.path, u.emotion_path) for u in with_random_voices(utterances))
    assert len(counts) == 12 and all(250 < count < 420 for count in counts.values())


def test_with_random_voices_an_utterance_alone_in_its_batch_hears_another_s_emotion(model, corpus):
    data = EmpathyDataModule([Manifest(str(corpus))], batch_size=1, emotion_voice="random")
    data.setup("validate")
    recordings = {u.id: u for u in data.splits["validation"]}
    batches = list(data.val_dataloader())
    assert [len(batch) for batch in batches] == [1] * 5
    pairs = {u.id: u.emotion_path for u in with_random_voices(data.splits["validation"])}
    for batch in batches:
        own = recordings[batch.ids[0]]
        donor = next(u for u in recordings.values() if u.path == pairs[own.id])
        kept = model.listener(collate([(read(own.path), own)], EMOTIONS))
        felt = model.listener(collate([(read(donor.path), donor)], EMOTIONS)).emotion
        expected = model.responder.loss(filled(model, kept.said, felt.embedding), [own.response])
        output = model(batch)
        torch.testing.assert_close(output.response_loss, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(output.emotion.embedding, felt.embedding, rtol=1e-4, atol=1e-5)
        assert (kept.emotion.embedding - felt.embedding).abs().max() > 1e-3


def test_one_voice_alone_has_no_other(corpus):
    (utterance, *_) = read_manifest(corpus)
    with pytest.raises(CorpusError, match="another voice than that of 0"):
        with_random_voices([utterance])
    assert with_random_voices([]) == []
