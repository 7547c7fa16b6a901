"""What the emotion embedding is worth: the figures by an independent way, and the extremes that are known."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import filled, spoken, tokens_of


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path / "bot"


def measured(bot, manifest, out, *words):
    command = ["evaluate", "prompts", "--checkpoint", str(bot), "--manifest", str(manifest), "--out", str(out)]
    assert main([*command, "--split=test", "--max_new_tokens=6", *words]) == 0
    return json.loads(out.read_text())


def next_tokens(model, embeddings, reply):
    """Probabilities before each token of a reply, one token at a time, from the model's own forward."""
    language_model, rows = model.responder.language_model, []
    for step in range(len(reply)):
        read = torch.cat([embeddings, language_model.embed(reply[:step])])[None]
        rows.append(language_model.model(inputs_embeds=read, use_cache=False).logits[0, -1].softmax(-1))
    return torch.stack(rows)


def test_figures_tell_the_recordings_of_the_emotion_too(bot, corpus, tmp_path):
    rows = [u for u in read_manifest(corpus) if u.split == "test"][:2]
    felt = tmp_path / "felt.wav"
    shutil.copy(rows[0].path, felt)
    manifest = tmp_path / "felt.jsonl"
    write_manifest(manifest, [replace(rows[0], emotion_path=str(felt)), rows[1]])
    before = measured(bot, manifest, tmp_path / "before.json")["made_from"]
    os.utime(felt, (1, 1))
    after = measured(bot, manifest, tmp_path / "after.json")["made_from"]
    assert before["manifest"] == after["manifest"] and before["recordings"] != after["recordings"]


@torch.no_grad()
def test_the_divergences_are_those_of_the_models_own_distributions(bot, corpus, tmp_path):
    found = measured(bot, corpus, tmp_path / "worth.json", "--batch_size=4")
    model = load(bot)
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    utterance = rows[2]
    (row,) = [row for row in found["utterances"] if row["id"] == utterance.id]
    batch = collate([SpeechDataset([utterance], 30.0)[0]], EMOTIONS)
    heard = model.listener(batch)
    predicted = EMOTIONS[int(heard.emotion.logits[0].argmax())]
    said, felt = heard.said[0], heard.emotion_embedding[0]
    words = utterance.transcript
    (goal,) = filled(model, [words], [utterance.emotion])
    (reply,) = tokens_of(model, [goal], 6)
    assert len(reply) == row["tokens"]
    expected = next_tokens(model, goal.embeddings, reply)
    for name, content in {"a": (said, felt), "b": (words, felt), "c": (words, predicted)}.items():
        (prompt,) = filled(model, [content[0]], [content[1]])
        other = next_tokens(model, prompt.embeddings, reply)
        divergence = float((expected * (expected / other).log()).sum())
        assert row["divergence"][name] == pytest.approx(divergence, rel=1e-2, abs=1e-5)
    assert row["divergence"]["e"] == 0


def test_the_share_of_the_way_is_none_at_the_floor_and_all_at_the_goal(bot, corpus, tmp_path, capsys):
    found = measured(bot, corpus, tmp_path / "worth.json", "--report", str(tmp_path / "worth.html"))
    rows = found["conditions"]
    assert rows["d"]["share"]["value"] == 0 and rows["e"]["share"]["value"] == 1
    total = {name: sum(row["divergence"][name] for row in found["utterances"]) for name in "abcd"}
    assert rows["b"]["share"]["value"] == pytest.approx(1 - total["b"] / total["d"], abs=1e-5)
    tokens = sum(row["tokens"] for row in found["utterances"])
    assert rows["a"]["divergence"]["value"] == pytest.approx(total["a"] / tokens, abs=1e-5)
    assert found["replies"] == 5 and all(rows["a"]["share"][end] <= 1 for end in ("low", "value", "high"))
    shown = capsys.readouterr().out
    assert all(f"\n{name}  " in f"\n{shown}" for name in "abcde")
    assert "random label" in (tmp_path / "worth.html").read_text()


def test_replies_do_not_depend_on_what_is_read_together(bot, corpus, tmp_path):
    alone = measured(bot, corpus, tmp_path / "alone.json", "--batch_size=1")["utterances"]
    together = measured(bot, corpus, tmp_path / "together.json", "--batch_size=5")["utterances"]
    for one, other in zip(alone, together, strict=True):
        assert one["id"] == other["id"] and one["tokens"] == other["tokens"]
        assert one["divergence"] == pytest.approx(other["divergence"], rel=1e-3, abs=1e-6)


def test_a_bot_without_an_embedding_is_one_line(model, corpus, tmp_path, capsys):
    model.listener.emotion_nuance = None
    model.responder.prompt = "{speech}"
    save(tmp_path / "deaf", spoken(model, list(EMOTIONS)))
    words = ["evaluate", "prompts", "--checkpoint", str(tmp_path / "deaf"), "--manifest", str(corpus), "--split=test"]
    assert main(words) == 2
    assert "no emotion embedding" in capsys.readouterr().err
