import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.audio import read, write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.decoding import Decoding
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation import answering
from empathy_lightning.evaluation.answering import Respondent
from empathy_lightning.jobs import alone as lock
from empathy_lightning.jobs import seed_of
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.unit_stream import UnitStream
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.papers import paper_named
from empathy_lightning.slots import Transcript, TrueLabel
from empathy_lightning.utterance import EMOTIONS
from tests.forked import Forked
from tests.tiny import filled, spoken, text_of, tokens_of, whole, writes


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path / "bot"


def respond(bot, manifest, out, *more):
    """At temperature 1: the likeliest words of random weights are none."""
    words = ["respond", str(manifest), "--checkpoint", str(bot), "--out", str(out), "--max_new_tokens", "6"]
    return main([*words, "--temperature", "1", "--allow_left_out", "1", *more])


def alone(model, utterance, seed=0, top_p=1.0):
    batch = collate([(read(utterance.path), utterance)], EMOTIONS)
    prompts = model.responder.prompts(batch, model.listener(batch))
    (tokens,) = tokens_of(model, prompts, 6, temperature=1.0, seed=seed_of(seed, utterance), top_p=top_p)
    return text_of(model, tokens), model.responder.language_model.tokenizer.eos_token_id not in tokens


def test_each_utterance_gets_what_the_model_says_to_it_alone(bot, model, corpus, tmp_path, capsys):
    assert respond(bot, corpus, tmp_path / "r.jsonl", "--per_shard", "3", "--batch_size", "2") == 0
    replies, test = read_manifest(tmp_path / "r.jsonl"), [u for u in read_manifest(corpus) if u.split == "test"]
    assert [(u.id, u.path, u.emotion, u.units) for u in replies] == [(u.id, u.path, u.emotion, None) for u in test]
    assert [(u.response, u.response_cut) for u in replies] == [alone(model, u) for u in test]
    assert len({u.response for u in replies}) == 5
    assert len(list((tmp_path / "r.jsonl.shards").glob("part-*.parquet"))) == 2
    assert "5 replies, unreadable recordings: 0" in capsys.readouterr().out


def test_draws_depend_on_the_utterance_and_the_seed_alone(bot, model, corpus, tmp_path):
    assert respond(bot, corpus, tmp_path / "a.jsonl", "--seed", "3", "--split", "all", "--batch_size", "7") == 0
    more = ("--seed", "3", "--split", "all", "--batch_size", "2", "--per_shard", "4")
    assert respond(bot, corpus, tmp_path / "b.parquet", *more) == 0
    said = [u.response for u in read_manifest(tmp_path / "a.jsonl")]
    assert said == [u.response for u in read_manifest(tmp_path / "b.parquet")] and len(set(said)) > 20
    first = read_manifest(corpus)[0]
    assert said[0] == alone(model, first, 3)[0] != alone(model, first)[0]


def test_an_interrupted_run_goes_on_and_processes_share_the_shards(bot, corpus, tmp_path, monkeypatch, capsys):
    out, shards = tmp_path / "r.jsonl", tmp_path / "r.jsonl.shards"
    words = ("--split", "all", "--per_shard", "8")
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
        next(model.listener.speech_adapter.parameters()).add_(0.1)
    save(bot, spoken(model, list(EMOTIONS)))
    assert respond(bot, corpus, tmp_path / "r.jsonl") == 2
    assert "checkpoint changed" in capsys.readouterr().err


def test_the_folder_says_what_fills_the_slots(backbones, model, corpus, tmp_path):
    parts = (
        model.listener.speech_encoder,
        model.listener.speech_adapter,
        model.responder.language_model,
        model.listener.emotion_nuance,
    )
    words = whole(*parts, speech_slot=Transcript(), emotion_slot=TrueLabel()).eval()
    save(tmp_path / "words", spoken(words, list(EMOTIONS)))
    assert respond(tmp_path / "words", corpus, tmp_path / "r.jsonl") == 0
    replies = read_manifest(tmp_path / "r.jsonl")
    for reply in replies:
        prompt = filled(model, [reply.transcript], [reply.emotion])
        chosen = Decoding(6, temperature=1.0)
        (written,) = model.responder.write(prompt, chosen, [seed_of(0, reply)])
        assert reply.response == written.text
    assert [u.response for u in replies] != [alone(model, u)[0] for u in replies]
    assert type(load(tmp_path / "words").responder.emotion_slot) is TrueLabel


def test_a_reply_that_is_told_the_label_says_so(model, corpus, tmp_path, capsys):
    deaf = whole(model.listener.speech_encoder, model.listener.speech_adapter, model.responder.language_model)
    save(tmp_path / "deaf", spoken(deaf.eval(), []))
    told = "the {emotion} of its prompt is the manifest's label"
    assert respond(tmp_path / "deaf", corpus, tmp_path / "a.jsonl") == 0
    assert told not in capsys.readouterr().out
    assert respond(tmp_path / "deaf", corpus, tmp_path / "b.jsonl", "--prompt", "{speech} ({emotion})") == 0
    assert told in capsys.readouterr().out


def test_another_prompt_takes_the_place_of_the_folder_s(bot, model, corpus, tmp_path, capsys):
    said = {}
    for recipe in (["--paper", "re_llm"], ["--prompt", "{speech} ({emotion})", "--system", "Be kind."]):
        assert respond(bot, corpus, tmp_path / f"{len(said)}.jsonl", *recipe) == 0
        said[len(said)] = [u.response for u in read_manifest(tmp_path / f"{len(said)}.jsonl")]
    test = [u for u in read_manifest(corpus) if u.split == "test"]
    spoken = paper_named("re_llm").spoken
    for index, (model.responder.prompt, model.responder.system) in enumerate(
        [(spoken.user, spoken.system), ("{speech} ({emotion})", "Be kind.")]
    ):
        assert said[index] == [alone(model, u)[0] for u in test]
    assert said[0] != said[1]
    assert respond(bot, corpus, tmp_path / "0.jsonl") == 2
    assert "user, system changed" in capsys.readouterr().err


def test_a_language_is_asked_for_as_in_a_chat(bot, model, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    rows[0] = replace(rows[0], prompt="Say it again: {speech}", system="Be kind.")
    write_manifest(tmp_path / "own.jsonl", rows)
    assert respond(bot, tmp_path / "own.jsonl", tmp_path / "r.jsonl", "--language", "German") == 0
    replies = read_manifest(tmp_path / "r.jsonl")
    assert [u.system for u in replies] == ["Be kind. Always answer in German.", None, None, None, None]
    model.responder.system = "Always answer in German."
    assert [u.response for u in replies] == [alone(model, u)[0] for u in replies]
    assert respond(bot, tmp_path / "own.jsonl", tmp_path / "r.jsonl") == 2
    assert "language" in capsys.readouterr().err


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


def test_only_the_likeliest_tokens_are_drawn_from(bot, model, corpus, tmp_path):
    assert respond(bot, corpus, tmp_path / "r.jsonl", "--top_p", "0.1") == 0
    replies = read_manifest(tmp_path / "r.jsonl")
    assert [u.response for u in replies] == [alone(model, u, top_p=0.1)[0] for u in replies]
    assert [u.response for u in replies] != [alone(model, u)[0] for u in replies]


@pytest.mark.parametrize(("extra", "longest"), [([], 128), (["--paper", "re_llm"], 48), (["--paper", "re_llm", 7], 7)])
def test_a_recipe_says_how_long_a_reply_may_be(bot, corpus, tmp_path, extra, longest):
    write_manifest(tmp_path / "m.jsonl", read_manifest(corpus)[-1:])
    words = ["respond", str(tmp_path / "m.jsonl"), "--checkpoint", str(bot), "--out", str(tmp_path / "r.jsonl")]
    assert main([*words, *(f"--max_new_tokens={word}" if word == 7 else word for word in extra)]) == 0
    assert json.loads((tmp_path / "r.jsonl.shards" / "made_from.json").read_text())["max_new_tokens"] == longest


def test_what_could_not_be_read_is_tried_again(bot, model, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    recording = rows[1].path
    rows[0].path = shutil.copyfile(rows[0].path, str(tmp_path / "early.wav"))
    first = alone(model, rows[0])[0]
    rows[1].path = str(tmp_path / "late.wav")
    write_manifest(tmp_path / "m.jsonl", rows)
    words = (bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl", "--per_shard", "2")
    assert respond(*words) == 0
    (tmp_path / "r.jsonl").unlink()
    kept = tmp_path / "r.jsonl.shards" / "part-00001.parquet"
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    assert respond(*words) == 0
    assert f"unreadable: tones/{rows[1].id}, {tmp_path / 'late.wav'}" in capsys.readouterr().out
    shutil.copyfile(recording, tmp_path / "late.wav")
    (tmp_path / "early.wav").unlink()  # What it was answered stays.
    assert respond(*words) == 0
    assert "5 replies, unreadable recordings: 0" in capsys.readouterr().out
    expected = [first, *(alone(model, u)[0] for u in rows[1:])]
    assert [u.response for u in read_manifest(tmp_path / "r.jsonl")] == expected
    assert kept.stat().st_mtime_ns == before


def test_nothing_that_is_there_is_written_over(bot, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(corpus, "m.jsonl")
    whole = Path("m.jsonl").read_text()
    for manifest, out, reason in (
        ("m.jsonl", tmp_path / "m.jsonl", "which is read"), (corpus, "m.jsonl", "without m.jsonl.shards"),
        (corpus, ".", "a folder"), (corpus, "m.jsonl/r.jsonl", "is a file"),
    ):  # fmt: skip
        assert respond(bot, manifest, out) == 2
        assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert Path("m.jsonl").read_text() == whole and {path.name for path in tmp_path.iterdir()} == {"bot", "m.jsonl"}


def test_the_utterances_own_prompts_count_unless_one_is_given(bot, model, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    own = [replace(u, prompt="Say it again: {speech}", system="Be kind.") for u in rows]
    write_manifest(tmp_path / "m.jsonl", own)
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "own.jsonl") == 0
    replies = read_manifest(tmp_path / "own.jsonl")
    assert [u.response for u in replies] == [alone(model, u)[0] for u in own] and replies[0].prompt == own[0].prompt
    assert [u.response for u in replies] != [alone(model, u)[0] for u in rows]
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl", "--prompt", "{speech} ({emotion})") == 0
    model.responder.prompt, model.responder.system = "{speech} ({emotion})", None
    replies = read_manifest(tmp_path / "r.jsonl")
    assert [(u.prompt, u.system, u.response) for u in replies] == [(None, None, alone(model, u)[0]) for u in rows]
    for changed in ({"prompt": "{speech}"}, {"system": "Be brief."}):
        write_manifest(tmp_path / "m.jsonl", [replace(own[0], **changed), *own[1:]])
        assert respond(bot, tmp_path / "m.jsonl", tmp_path / "own.jsonl") == 2
        assert "recordings changed" in capsys.readouterr().err


def test_a_manifest_is_the_same_however_it_is_named(bot, corpus, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").symlink_to(corpus.parent)
    monkeypatch.chdir(corpus.parent)
    for name in (corpus.name, corpus, tmp_path / "elsewhere" / corpus.name, f"../{corpus.parent.name}/{corpus.name}"):
        assert respond(bot, name, tmp_path / "r.jsonl") == 0
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    rows[0].path, rows[1].path = rows[1].path, rows[0].path
    write_manifest(tmp_path / "m.jsonl", rows)
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl") == 2


def test_text_that_is_not_utf_8_is_refused_before_the_work(bot, corpus, tmp_path, capsys):
    rows = read_manifest(corpus)[-2:]
    rows[1].transcript = "m\udcfcde"
    write_manifest(tmp_path / "m.jsonl", rows)
    assert respond(bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl") == 2
    assert f"tones/{rows[1].id} holds text that is not UTF-8" in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"bot", "m.jsonl"}


def test_one_process_answers_and_writes_at_a_time(bot, corpus, tmp_path, monkeypatch, capsys):
    shards, held = tmp_path / "r.jsonl.shards", []
    with lock(shards):
        assert respond(bot, corpus, tmp_path / "r.jsonl") == 2
    assert "another process makes" in capsys.readouterr().err and not list(shards.glob("part-*"))

    def _write(path, rows):
        with pytest.raises(InputError, match="another process makes"), lock(shards):
            pass
        held.append(path)
        write_manifest(path, rows)

    monkeypatch.setattr("empathy_lightning.evaluation.replies.write_manifest", _write)
    assert respond(bot, corpus, tmp_path / "r.jsonl") == 0
    assert len(held) == 1 and len(read_manifest(tmp_path / "r.jsonl")) == 5


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--split", "none"], "no split is named 'none'"),
        (["--batch_size", "0"], "at least 1"),
        (["--max_new_tokens", "0"], "at least 1"),
        (["--top_p", "0"], "top_p"),
        (["--paper", "stew"], '"stew" for --'),
        (["--paper", "re_llm", "--prompt", "{speech}"], "--paper, or"),
        (["--system", "Be kind."], "--paper, or"),
        (["--prompt", "hello"], "no {speech} slot"),
        (["--prompt", ""], "no {speech} slot"),
        (["--prompt", "", "--paper", "re_llm"], "--paper, or"),
    ],
)
def test_bad_choices_are_one_line(bot, corpus, tmp_path, capsys, extra, reason):
    assert respond(bot, corpus, tmp_path / "r.jsonl", *extra) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "r.jsonl").exists()


def test_a_folder_that_cannot_answer_is_one_line(backbones, model, corpus, tmp_path, capsys):
    assert respond(tmp_path / "nowhere", corpus, tmp_path / "r.jsonl") == 2
    assert "no checkpoint folder" in capsys.readouterr().err
    recogniser = whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance)
    save(tmp_path / "deaf", spoken(recogniser, list(EMOTIONS)))
    assert respond(tmp_path / "deaf", corpus, tmp_path / "r.jsonl") == 2
    assert "no language model" in capsys.readouterr().err


@pytest.fixture
def talker(bot, model, tmp_path):
    """A folder that speaks: a decoder and a vocoder of random weights."""
    torch.manual_seed(1)
    decoder = SpeechDecoder(32, len(model.responder.language_model.tokenizer), 0, 64, Qwen2Body(32, 1, 2))
    decoder.model.get_input_embeddings().weight.data[0] *= 40  # so that replies end
    save(tmp_path / "talker", spoken(model, list(EMOTIONS), decoder.eval(), NeuralVocoder(64, 16, 1)))
    return tmp_path / "talker"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.wav")}


def test_replies_are_spoken_as_in_a_chat(talker, corpus, tmp_path, capsys):
    assert respond(talker, corpus, tmp_path / "r.jsonl", "--speech", "--batch_size", "2") == 0
    assert "5 replies, without speech: 0, unreadable" in capsys.readouterr().out
    chatbot, lengths = EmpatheticChatbot.from_pretrained(talker), set()
    for u in read_manifest(tmp_path / "r.jsonl"):
        assert u.response_path == str(tmp_path / "r.jsonl.speech" / "tones" / f"{u.id}.wav")
        (reply,) = chatbot.respond([u.path], decoding=Decoding(6, temperature=1.0, seed=seed_of(0, u)))
        assert reply.text == u.response
        waveform, rate = soundfile.read(u.response_path, dtype="float32")
        assert rate == 16_000 and abs(waveform - reply.waveform.numpy()).max() <= 1 / 32_768
        # Said in blocks, which are those of the whole but for rounding.
        assert torch.allclose(chatbot.model.talker.vocoder(torch.tensor([u.units]))[0], reply.waveform, atol=1e-3)
        assert len(waveform) > 320
        lengths.add(len(u.units))
    assert len(lengths) > 1
    # The text is what it is without speech.
    assert respond(talker, corpus, tmp_path / "t.jsonl") == 0
    written = read_manifest(tmp_path / "t.jsonl")
    assert [u.response for u in written] == [u.response for u in read_manifest(tmp_path / "r.jsonl")]
    assert all(u.response_path is None and u.units is None for u in written)
    assert not (tmp_path / "t.jsonl.speech").exists()


def test_speech_depends_on_the_utterance_and_the_seed_alone(talker, corpus, tmp_path):
    for name, *more in (
        ("a", "--seed", "3"), ("b", "--seed", "3", "--batch_size", "2", "--per_shard", "3"), ("c", "--seed", "4"),
        ("d", "--seed", "3", "--unit_temperature", "0"), ("e", "--seed", "3", "--unit_top_k", "1"),
    ):  # fmt: skip
        assert respond(talker, corpus, tmp_path / f"{name}.jsonl", "--speech", *more) == 0
    spoken = {name: contents(tmp_path / f"{name}.jsonl.speech") for name in "abcde"}
    assert spoken["d"] == spoken["e"]
    assert spoken["a"] == spoken["b"] and len(spoken["a"]) == 5
    assert all(spoken["a"][key] != other for name in "cd" for key, other in spoken[name].items() if key in spoken["a"])
    assert (tmp_path / "a.jsonl").read_text().replace("a.jsonl", "b.jsonl") == (tmp_path / "b.jsonl").read_text()


def killed_in_its_fourth_file(words):
    """A command that ends in the middle of writing speech."""
    files = []

    def _write(path, *arguments):
        files.append(path)
        if len(files) == 4:
            path.with_name(f".{path.name}").write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, *arguments)

    answering.write = _write
    return main(words)


def test_a_killed_run_ends_with_the_same_bytes(talker, corpus, tmp_path):
    words = ("--speech", "--per_shard", "2", "--batch_size", "2")
    killed, once = tmp_path / "killed.jsonl", tmp_path / "once.jsonl"
    command = ["respond", str(corpus), "--checkpoint", str(talker), "--out", str(killed), "--max_new_tokens", "6"]
    run = Forked(killed_in_its_fourth_file, [*command, "--temperature", "1", *words]).wait()
    assert run.returncode == -signal.SIGKILL and not killed.exists()
    assert len(list((tmp_path / "killed.jsonl.shards").glob("part-*"))) == 1
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed.jsonl.speech").rglob("[0-9]*.wav")}
    assert len(first) == 3
    for out in (killed, once):
        assert respond(talker, corpus, out, *words) == 0
    assert contents(tmp_path / "killed.jsonl.speech") == contents(tmp_path / "once.jsonl.speech")
    assert killed.read_text() == once.read_text().replace("once", "killed")
    # The shard that was whole was not spoken again.
    assert sum(path.stat().st_mtime_ns == time for path, time in first.items()) == 2


def test_speech_that_is_lost_is_made_again_and_may_be_moved(talker, corpus, tmp_path, monkeypatch):
    out = tmp_path / "here" / "r.jsonl"
    assert respond(talker, corpus, out, "--speech", "--per_shard", "2") == 0
    whole, text = contents(tmp_path / "here"), out.read_text()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "r.jsonl"
    assert all(Path(u.response_path).is_file() for u in read_manifest(moved))
    Path(read_manifest(moved)[3].response_path).unlink()
    assert respond(talker, corpus, moved, "--speech", "--per_shard", "2") == 0
    assert contents(tmp_path / "there") == whole and moved.read_text() == text
    monkeypatch.setattr("empathy_lightning.evaluation.replies.load", lambda *_: pytest.fail("answered again"))
    assert respond(talker, corpus, moved, "--speech", "--per_shard", "2") == 0


def test_shards_without_speech_are_not_those_with_it(talker, corpus, tmp_path, capsys):
    assert respond(talker, corpus, tmp_path / "r.jsonl") == 0
    assert respond(talker, corpus, tmp_path / "r.jsonl", "--speech") == 2
    assert "(speech changed)" in capsys.readouterr().err
    assert respond(talker, corpus, tmp_path / "r.jsonl") == 0
    assert respond(talker, corpus, tmp_path / "s.jsonl", "--speech") == 0
    changed = [(name, ["--speech", f"--{name}", "0.5"]) for name in ("unit_temperature", "unit_top_p")]
    for name, more in (("speech", []), *changed):
        assert respond(talker, corpus, tmp_path / "s.jsonl", *more) == 2
        assert f"({name} changed)" in capsys.readouterr().err
    assert len(contents(tmp_path / "s.jsonl.speech")) == 5


def test_without_words_or_units_there_is_no_speech(talker, corpus, tmp_path, monkeypatch, capsys):
    checkpoint = load(talker)
    writes(monkeypatch, ["", "Oh.", "Well.", "Ah.", " "])
    spoken = []

    class OneUnit(UnitStream):
        """Writes one unit at the end of each reply, but none of the second."""

        def write(self):
            if self._voices and self._voices[0].ended:
                spoken.append(self)
                yield [torch.tensor([7] * (len(spoken) != 2))]

    monkeypatch.setattr(SpeechDecoder, "begin", lambda self, count, *rest: OneUnit(self, *rest))
    assert respond(talker, corpus, tmp_path / "r.jsonl", "--speech", "--batch_size", "1") == 0
    rows = {u.response: u for u in read_manifest(tmp_path / "r.jsonl")}
    # A reply of a single unit has a sound too; one of none has neither.
    assert {text: u.units for text, u in rows.items()} == {"": None, "Oh.": [7], "Well.": None, "Ah.": [7]}
    assert {text for text, u in rows.items() if u.response_path is None} == {"", "Well."}
    frames = soundfile.info(rows["Ah."].response_path).frames
    assert len(spoken) == 3 and frames == checkpoint.talker.vocoder.samples_per_unit
    assert "5 replies, without speech: 3," in capsys.readouterr().out


def test_speech_beyond_the_window_is_answered_as_in_a_chat(corpus, tmp_path):
    """Cut at pauses and heard whole: forty seconds of noise with a pause, by the manifest and by the bot."""
    waveform = 0.1 * torch.randn(16_000 * 40)
    waveform[16_000 * 25 : 16_000 * 26] = 0
    soundfile.write(tmp_path / "long.wav", waveform.numpy(), 16_000)
    row = replace(read_manifest(corpus)[0], id="long", path=str(tmp_path / "long.wav"), split="test", duration=40.0)
    write_manifest(tmp_path / "m.jsonl", [row])
    language_model = LanguageModel.from_pretrained("small-world/language_model")
    encoder = SpeechEncoder.from_pretrained("small-world/speech_encoder")
    nuance = EmotionNuance(192, 192, hidden_size=32, gate_size=8)
    save(tmp_path / "bot", spoken(whole(encoder, SpeechAdapter(192, 192, 64), language_model, nuance), EMOTIONS))
    assert respond(tmp_path / "bot", tmp_path / "m.jsonl", tmp_path / "r.jsonl") == 0
    (said,) = read_manifest(tmp_path / "r.jsonl")
    bot, chosen = (
        EmpatheticChatbot.from_pretrained(tmp_path / "bot"),
        Decoding(6, temperature=1.0, seed=seed_of(0, row)),
    )
    (reply,) = bot.respond([tmp_path / "long.wav"], decoding=chosen)
    assert said.response == reply.text and len(reply.turn.speech) > 30 * 5


def test_ids_may_hold_anything(talker, corpus, tmp_path, capsys):
    row = next(u for u in read_manifest(corpus) if u.split == "test")
    ids = ("a/b", "a_b", "..", "../../escape", ".", " ", "謝謝", "x" * 300, "C:\\d", "-rf", "a\nb", "a\0b")
    rows = [replace(row, id=name, corpus=corpus_) for name in ids for corpus_ in ("c", "../c", "/etc")]
    write_manifest(tmp_path / "m.jsonl", rows)
    out = tmp_path / "deep" / "r.jsonl"
    assert respond(talker, tmp_path / "m.jsonl", out, "--speech") == 0
    replies = read_manifest(out)
    paths = [Path(u.response_path) for u in replies]
    assert len(set(paths)) == len(rows) and [(u.corpus, u.id) for u in replies] == [(u.corpus, u.id) for u in rows]
    for path in paths:
        assert path.is_file() and path.resolve().parent.parent == (tmp_path / "deep" / "r.jsonl.speech").resolve()
    assert {path.name for path in tmp_path.iterdir()} == {"bot", "talker", "m.jsonl", "deep"}
    assert paths[3].name == "a_b.wav"
    twice = (tmp_path / "m.jsonl").read_text().splitlines()[0] + "\n"
    (tmp_path / "m.jsonl").write_text(twice * 2)
    assert respond(talker, tmp_path / "m.jsonl", tmp_path / "twice.jsonl") == 2
    assert "was there before, in line 1" in capsys.readouterr().err


def test_who_cannot_speak_says_so_in_one_line(bot, talker, model, corpus, tmp_path, capsys):
    save(tmp_path / "units", spoken(model, list(EMOTIONS), load(talker).talker.speech_decoder))
    (tmp_path / "file.jsonl.speech").write_text("")
    for folder, out, reason, *more in (
        (bot, "r.jsonl", "no speech decoder", "--speech"), (tmp_path / "units", "r.jsonl", "no vocoder", "--speech"),
        (talker, "file.jsonl", "is a file", "--speech"), (talker, "r.jsonl", "--speech too", "--unit_temperature", "1"),
        (talker, "r.jsonl", "--speech too", "--units_per_token", "9"),
        (talker, "r.jsonl", "a temperature has to be 0 or more", "--speech", "--unit_temperature", "-1"),
    ):  # fmt: skip
        assert respond(folder, corpus, tmp_path / out, *more) == 2
        assert reason in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / out).exists()


def test_another_recording_of_an_older_date_is_answered_anew(bot, model, corpus, tmp_path, monkeypatch):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    for row in rows:
        row.path = shutil.copy2(row.path, str(tmp_path / f"take#{row.id}.wav"))
    write_manifest(tmp_path / "m.jsonl", rows)
    words = (bot, tmp_path / "m.jsonl", tmp_path / "r.jsonl", "--per_shard", "3")
    assert respond(*words) == 0
    answer, asked = Respondent.recordings, []

    def _answer(self, utterances, progress):
        asked.append([u.id for u in utterances])
        return answer(self, utterances, progress)

    monkeypatch.setattr(Respondent, "recordings", _answer)
    shutil.copyfile(read_manifest(corpus)[0].path, rows[1].path)
    os.utime(rows[1].path, (1e9, 1e9))
    assert respond(*words) == 0 and asked == [[rows[1].id]]
    after = read_manifest(tmp_path / "r.jsonl")
    assert [u.response for u in after] == [alone(model, u)[0] for u in rows]
    assert all(u.raw_labels == row.raw_labels for u, row in zip(after, rows, strict=True))
    assert respond(*words) == 0 and len(asked) == 1


def test_unreadable_recordings_stop_it_above_the_limit(bot, corpus, tmp_path, capsys):
    rows = [u for u in read_manifest(corpus) if u.split == "test"]
    rows[1].path = str(tmp_path / "noise.wav")
    Path(rows[1].path).write_bytes(b"no audio at all")
    write_manifest(tmp_path / "m.jsonl", rows)
    words = ["respond", str(tmp_path / "m.jsonl"), "--checkpoint", str(bot), "--out", str(tmp_path / "r.jsonl")]
    assert main([*words, "--max_new_tokens", "3"]) == 2
    said = capsys.readouterr().err
    assert "1 of 5 utterances would be lost: 1 unreadable" in said and "--allow_left_out 0.21" in said
    assert not (tmp_path / "r.jsonl").exists()
    assert main([*words, "--max_new_tokens", "3", "--allow_left_out", "0.21"]) == 0
    assert len(read_manifest(tmp_path / "r.jsonl")) == 4


def test_a_file_in_the_place_of_the_shards_is_told_first(bot, corpus, tmp_path, capsys):
    (tmp_path / "r.jsonl.shards").write_text("mine")
    assert respond(bot, corpus, tmp_path / "r.jsonl") == 2
    assert "r.jsonl.shards is a file" in capsys.readouterr().err
