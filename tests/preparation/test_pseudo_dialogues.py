import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.data import Manifest, read_manifest, write_manifest
from empathy_lightning.data.batch import SpeechDataset
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.papers import PAPERS
from empathy_lightning.preparation.engines import Generation
from empathy_lightning.preparation.pseudo_dialogues import (
    draw_labels,
    label_distribution,
    pair,
    parse_distribution,
    prepare_pseudo_dialogues,
)
from empathy_lightning.small_world.world import sentences
from empathy_lightning.utterance import Utterance
from tests.corpora.noise import noise

COUNTS = {"neutral": 6, "happy": 3, "sad": 1}


def voices(split="train"):
    labels = [name for name, count in COUNTS.items() for _ in range(count)]
    return [
        Utterance(f"v{i}", "ser", f"/v/{split}{i}.wav", start=1.0, end=3.0, split=split, emotion=e, arousal=i / 10)
        for i, e in enumerate(labels)
    ]


def instructions(count):
    return [Utterance(f"i{i}", "ins", f"/i/{i}.wav", transcript="hello", arousal=0.9) for i in range(count)]


def test_labels_follow_the_recordings_and_the_seed_but_not_the_order():
    shares = label_distribution([*voices(), *voices("test")[:6]])
    assert shares == {"happy": 0.3, "neutral": 0.6, "sad": 0.1}
    drawn = draw_labels(instructions(3_000), shares, seed=3)
    counts = Counter(u.emotion for u in drawn)
    for name, share in shares.items():
        # Four standard deviations of a binomial count.
        assert abs(counts[name] - 3_000 * share) < 4 * (3_000 * share * (1 - share)) ** 0.5
    assert all(u.arousal is None for u in drawn)
    backwards = draw_labels(instructions(3_000)[::-1], dict(reversed(shares.items())), seed=3)
    assert backwards[::-1] == drawn != draw_labels(instructions(3_000), shares, seed=4)


def test_a_distribution_is_read_or_refused():
    assert parse_distribution("sad=1, happy=3,angry=0") == {"happy": 0.75, "sad": 0.25}
    for text in ("sad", "sad=x", "sad=-1,happy=2", "sad=0", "sad=1,sad=1", "sad=nan", "sad=inf"):
        with pytest.raises(InputError, match="distribution"):
            parse_distribution(text)


def test_pairs_share_emotion_and_split_and_use_all_dialogues_alike():
    dialogues = draw_labels(instructions(30), {"neutral": 0.6, "happy": 0.4}, seed=0)
    recordings = [*voices(), *voices("test")]
    pairs = pair(dialogues, recordings, per_recording=2, seed=0)
    by_id = {f"{u.corpus}/{u.id}": u for u in voices()}
    assert Counter(p.emotion_id for p in pairs) == {name: 2 for name, u in by_id.items() if u.emotion != "sad"}
    for made in pairs:
        voice = by_id[made.emotion_id]
        assert (made.emotion, made.arousal) == (voice.emotion, voice.arousal)
        assert (made.emotion_path, made.emotion_start, made.emotion_end) == (voice.path, 1.0, 3.0)
        assert made.path.startswith("/i/") and made.raw_labels["instruction"].startswith("ins/i")
    assert len({p.id for p in pairs}) == len(pairs)
    for emotion in ("neutral", "happy"):
        uses = Counter(p.raw_labels["instruction"] for p in pairs if p.emotion == emotion)
        most = max(uses.values())
        assert most - min(uses.values()) <= 1 and (
            most == 1 or len(uses) == sum(d.emotion == emotion for d in dialogues)
        )
    assert pair(dialogues, recordings, 2, seed=0) == pairs != pair(dialogues, recordings, 2, seed=1)


def test_a_recording_is_never_its_own_pair_nor_twice_that_of_a_dialogue():
    both = [Utterance(f"b{i}", "c", f"/{i}.wav", transcript="hello", emotion="sad") for i in range(3)]
    pairs = pair(both, both, per_recording=5)
    assert sorted(p.id for p in pairs) == sorted(f"{a.id}~c~{b.id}" for a in both for b in both if a is not b)


def test_the_command_writes_pairs_that_can_be_read_again(tmp_path):
    texts = [sentence.text for sentence, _ in zip(sentences("train"), range(20), strict=False)]
    spoken = [
        Utterance(f"i{n:02d}", "ins", str(tmp_path / f"{n}.wav"), transcript=text, split="train")
        for n, text in enumerate(texts)
    ]
    write_manifest(tmp_path / "instructions.jsonl", spoken)
    noise(tmp_path / "v.wav")
    write_manifest(tmp_path / "recordings.jsonl", [replace(u, path=str(tmp_path / "v.wav")) for u in voices()])
    for u in spoken:
        noise(u.path)
    results = []
    for name in ("a.parquet", "b.jsonl"):
        words = ["prepare", "pseudo_dialogues", str(tmp_path / "instructions.jsonl"), "--out", str(tmp_path / name)]
        words += ["--recordings", str(tmp_path / "recordings.jsonl"), "--language_model", "small-world/language_model"]
        words += ["--distribution", "happy=0.5,neutral=0.5", "--per_recording", "2", "--per_shard", "7"]
        assert main(words) == 0
        results.append(read_manifest(tmp_path / name))
    assert results[0] == results[1]
    assert len(results[0]) == 2 * (COUNTS["happy"] + COUNTS["neutral"])
    for made in results[0]:
        assert made.response and made.path == str(tmp_path / f"{int(made.id[1:3])}.wav")
    report = json.loads((tmp_path / "a.parquet.report.json").read_text())
    assert report["recordings_without_a_dialogue"] == 1 and report["pairs"] == 18
    assert main([*words[:-6], "--distribution", "bored=1"]) == 2


def test_the_pairs_train_a_model_through_the_datamodule(corpus, model, tmp_path):
    generation = Generation("small-world/language_model", PAPERS["freezeempath"].labelled)
    out = prepare_pseudo_dialogues(corpus, corpus, tmp_path / "pairs.parquet", generation, per_recording=2)
    data = EmpathyDataModule([Manifest(str(out))], batch_seconds=10)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    rows = {u.id: u for u in read_manifest(out)}
    voices_of = [
        SpeechDataset([replace(rows[name], path=rows[name].emotion_path, emotion_path=None)]) for name in batch.ids
    ]
    for row, voice in enumerate(voices_of):
        own = batch.emotion_waveform[row, : batch.emotion_lengths[row]]
        assert torch.equal(own, voice[0][0]) and rows[batch.ids[row]].path != rows[batch.ids[row]].emotion_path
    output = model(batch)
    output.response_loss.backward()
    assert (
        output.response_loss.isfinite() and model.listener.emotion_nuance.extractor.linear2.weight.grad.abs().sum() > 0
    )


def small(tmp_path, voices_, heard=True):
    """Ten instructions and the voices, all with files or the voices without."""
    noise(tmp_path / "a.wav")
    if heard:
        voices_ = [replace(u, path=str(tmp_path / "a.wav"), start=0.0, end=None) for u in voices_]
    spoken = [replace(u, path=str(tmp_path / "a.wav"), start=0.02) for u in instructions(10)]
    write_manifest(tmp_path / "i.jsonl", spoken)
    write_manifest(tmp_path / "r.jsonl", voices_)
    words = ["prepare", "pseudo_dialogues", str(tmp_path / "i.jsonl"), "--recordings", str(tmp_path / "r.jsonl")]
    return [*words, "--out", str(tmp_path / "p.jsonl"), "--language_model", "small-world/language_model"]


def test_what_cannot_be_paired_is_refused_before_the_model_answers(tmp_path, capsys):
    def _said(voices_, *more, **how):
        assert main([*small(tmp_path, voices_, **how), *more]) == 2
        assert not (tmp_path / "p.jsonl.shards").exists()
        return capsys.readouterr().err.splitlines()[-1]

    assert "10 of 10 utterances would be lost: 10 without a file" in _said(voices(), heard=False)
    assert "no training utterance with an emotion: label some" in _said([replace(u, emotion=None) for u in voices()])
    ang = [replace(u, emotion="ang") for u in voices()]
    assert "10 labelled 'ang', which is no known emotion word" in _said(ang)
    words = small(tmp_path, voices())
    silent = [replace(u, transcript="" if u.id == "i3" else u.transcript) for u in read_manifest(words[2])]
    write_manifest(words[2], [replace(u, emotion="ang") for u in silent])  # Their own labels are not used.
    assert main(words) == 2
    assert "1 of 10 utterances would be lost: 1 no transcript (i3)" in capsys.readouterr().err.splitlines()[-1]
    assert "'ang', which is no known emotion word" in _said(voices(), "--distribution", "ang=1")


def test_a_share_without_files_may_be_allowed_and_has_no_pair(tmp_path, capsys):
    some = [
        replace(u, path="/gone.wav" if u.id == "v8" else str(tmp_path / "a.wav"), start=0.0, end=None) for u in voices()
    ]
    words = small(tmp_path, some, heard=False)
    assert main([*words, "--allow_left_out", "0.2", "--distribution", "happiness=1"]) == 0
    pairs = read_manifest(tmp_path / "p.jsonl")
    assert {u.emotion_id for u in pairs} == {"ser/v6", "ser/v7"}


@pytest.mark.parametrize(("name", "folder"), [("p.jsonl.shards", False), ("p.jsonl.report.json", True)])
@pytest.mark.parametrize("step", ["pseudo_dialogues", "responses"])
def test_what_stands_in_the_way_is_told_before_the_model_answers(tmp_path, capsys, monkeypatch, step, name, folder):
    words = small(tmp_path, voices())
    words = words if step == "pseudo_dialogues" else [*words[:1], step, *words[2:3], *words[5:]]
    (tmp_path / name).mkdir() if folder else (tmp_path / name).write_text("mine")
    monkeypatch.setattr("empathy_lightning.preparation.engines.Generation.answerer", None)
    assert main(words) == 2
    assert name in capsys.readouterr().err
