import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read
from empathy_lightning.batch import collate
from empathy_lightning.checkpoints import Checkpoint, load, save
from empathy_lightning.corpora import read_manifest, write_manifest
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.preparation.answers import seed_of
from empathy_lightning.prompts import recipe_named
from empathy_lightning.utterance import EMOTIONS


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", Checkpoint(model, list(EMOTIONS)))
    return tmp_path / "bot"


def respond(bot, manifest, out, *more):
    """At temperature 1: the likeliest words of random weights are none."""
    words = ["respond", str(manifest), "--checkpoint", str(bot), "--out", str(out), "--max-new-tokens", "6"]
    return main([*words, "--temperature", "1", *more])


def alone(model, utterance, seed=0):
    batch = collate([(read(utterance.path), utterance)], EMOTIONS)
    prompts = model.prompts(batch, *model.listen(batch))
    (tokens,) = model.respond(prompts, 6, temperature=1.0, seed=seed_of(seed, utterance))
    return model.text(tokens), model.language_model.tokenizer.eos_token_id not in tokens


def test_each_utterance_gets_what_the_model_says_to_it_alone(bot, model, corpus, tmp_path, capsys):
    assert respond(bot, corpus, tmp_path / "r.jsonl", "--per-shard", "3", "--batch-size", "2") == 0
    replies, test = read_manifest(tmp_path / "r.jsonl"), [u for u in read_manifest(corpus) if u.split == "test"]
    assert [(u.id, u.path, u.emotion, u.units) for u in replies] == [(u.id, u.path, u.emotion, None) for u in test]
    assert [(u.response, u.response_cut) for u in replies] == [alone(model, u) for u in test]
    assert len({u.response for u in replies}) == 5
    assert len(list((tmp_path / "r.jsonl.shards").glob("part-*.parquet"))) == 2
    assert "5 replies, unreadable recordings: 0" in capsys.readouterr().out


def test_draws_depend_on_the_utterance_and_the_seed_alone(bot, model, corpus, tmp_path):
    assert respond(bot, corpus, tmp_path / "a.jsonl", "--seed", "3", "--split", "all", "--batch-size", "7") == 0
    more = ("--seed", "3", "--split", "all", "--batch-size", "2", "--per-shard", "4")
    assert respond(bot, corpus, tmp_path / "b.parquet", *more) == 0
    said = [u.response for u in read_manifest(tmp_path / "a.jsonl")]
    assert said == [u.response for u in read_manifest(tmp_path / "b.parquet")] and len(set(said)) > 20
    first = read_manifest(corpus)[0]
    assert said[0] == alone(model, first, 3)[0] != alone(model, first)[0]


def test_an_interrupted_run_goes_on_and_processes_share_the_shards(bot, corpus, tmp_path, monkeypatch, capsys):
    out, shards = tmp_path / "r.jsonl", tmp_path / "r.jsonl.shards"
    words = ("--split", "all", "--per-shard", "8")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert respond(bot, corpus, out, *words) == 0
    assert "process 1 of 2" in capsys.readouterr().out and not out.exists()
    written = {path.name: path.stat().st_mtime_ns for path in shards.glob("part-*")}
    assert sorted(written) == ["part-00001.parquet", "part-00003.parquet"]
    monkeypatch.delenv("WORLD_SIZE"), monkeypatch.delenv("RANK")
    assert respond(bot, corpus, out, *words) == 0
    assert all((shards / name).stat().st_mtime_ns == time for name, time in written.items())
    whole = out.read_text()
    assert respond(bot, corpus, tmp_path / "once.jsonl", "--split", "all") == 0
    assert (tmp_path / "once.jsonl").read_text() == whole


def test_shards_of_another_training_or_choice_are_refused(bot, model, corpus, tmp_path, capsys):
    assert respond(bot, corpus, tmp_path / "r.jsonl") == 0
    assert respond(bot, corpus, tmp_path / "r.jsonl", "--seed", "1") == 2
    assert "seed changed" in capsys.readouterr().err
    with torch.no_grad():
        next(model.speech_adapter.parameters()).add_(0.1)
    save(bot, Checkpoint(model, list(EMOTIONS)))
    assert respond(bot, corpus, tmp_path / "r.jsonl") == 2
    assert "checkpoint changed" in capsys.readouterr().err


def test_the_folder_says_what_fills_the_slots(backbones, model, corpus, tmp_path):
    parts = (model.speech_encoder, model.speech_adapter, model.language_model, model.emotion_nuance)
    words = EmpatheticLM(*parts, speech_slot="transcript", emotion_slot="label").eval()
    save(tmp_path / "words", Checkpoint(words, list(EMOTIONS)))
    assert respond(tmp_path / "words", corpus, tmp_path / "r.jsonl") == 0
    replies = read_manifest(tmp_path / "r.jsonl")
    for reply in replies:
        prompt = model.prompt_rows([reply.transcript], [reply.emotion])
        tokens = model.respond(prompt, 6, temperature=1.0, seed=seed_of(0, reply))[0]
        assert reply.response == model.text(tokens)
    assert [u.response for u in replies] != [alone(model, u)[0] for u in replies]
    assert load(tmp_path / "words").model.emotion_slot == "label"


def test_another_prompt_takes_the_place_of_the_folder_s(bot, model, corpus, tmp_path, capsys):
    said = {}
    for recipe in (["--recipe", "re-llm"], ["--prompt", "{speech} ({emotion})", "--system", "Be kind."]):
        assert respond(bot, corpus, tmp_path / f"{len(said)}.jsonl", *recipe) == 0
        said[len(said)] = [u.response for u in read_manifest(tmp_path / f"{len(said)}.jsonl")]
    test = [u for u in read_manifest(corpus) if u.split == "test"]
    spoken = recipe_named("re-llm").spoken
    for index, (model.prompt, model.system) in enumerate(
        [(spoken.user, spoken.system), ("{speech} ({emotion})", "Be kind.")]
    ):
        assert said[index] == [alone(model, u)[0] for u in test]
    assert said[0] != said[1]
    assert respond(bot, corpus, tmp_path / "0.jsonl") == 2
    assert "user, system changed" in capsys.readouterr().err


def test_unreadable_recordings_are_left_out_and_named(bot, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    rows[1].path = str(tmp_path / "nowhere.wav")
    write_manifest(tmp_path / "m.jsonl", rows)
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl") == 0
    assert [u.id for u in read_manifest(tmp_path / "r.jsonl")] == [u.id for u in rows if u is not rows[1]]
    said = capsys.readouterr()
    assert "4 replies, unreadable recordings: 1" in said.out and "nowhere.wav" in said.out + said.err
    write_manifest(tmp_path / "m.jsonl", [rows[1]])
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "none.jsonl") == 2
    assert "none of 1 recordings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--split", "none"], "no utterance in split none"),
        (["--batch-size", "0"], "at least 1"),
        (["--max-new-tokens", "0"], "at least 1"),
        (["--top-p", "0"], "top_p"),
        (["--recipe", "stew"], "no recipe named"),
        (["--recipe", "re-llm", "--prompt", "{speech}"], "--recipe, or"),
        (["--system", "Be kind."], "--recipe, or"),
        (["--prompt", "hello"], "no {speech} slot"),
    ],
)
def test_bad_choices_are_one_line(bot, corpus, tmp_path, capsys, extra, reason):
    assert respond(bot, corpus, tmp_path / "r.jsonl", *extra) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "r.jsonl").exists()


def test_a_folder_that_cannot_answer_is_one_line(backbones, model, corpus, tmp_path, capsys):
    assert respond(tmp_path / "nowhere", corpus, tmp_path / "r.jsonl") == 2
    assert "no checkpoint folder" in capsys.readouterr().err
    recogniser = EmpatheticLM(model.speech_encoder, emotion_nuance=model.emotion_nuance)
    save(tmp_path / "deaf", Checkpoint(recogniser, list(EMOTIONS)))
    assert respond(tmp_path / "deaf", corpus, tmp_path / "r.jsonl") == 2
    assert "no language model" in capsys.readouterr().err
