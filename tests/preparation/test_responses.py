"""Answers in shards: the same whatever happens, for one process or several, before and after an interruption."""

import contextlib
import itertools
import json
import resource
import signal
import sys
import time

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.jobs import alone
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.preparation import engines
from empathy_lightning.preparation.response_selection import ResponseSelection
from empathy_lightning.preparation.responses import prepare_responses
from empathy_lightning.prompts import Prompt
from empathy_lightning.small_world.world import sentences
from empathy_lightning.text import cut
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.conftest import byte_tokenizer
from tests.forked import fork
from tests.modules.families import tiny

SHIPPED = "small-world/language_model"


@pytest.fixture
def manifest(tmp_path):
    """30 utterances with all kinds of fields, of which the model sees only words and label."""
    rows = [
        Utterance(
            id=f"u{index:02d}", corpus="c", path=f"{index}.wav", start=0.5, end=2.0, transcript=sentence.text,
            language="en", speaker="s", session="1", split="train", emotion=EMOTIONS[index % 5], arousal=0.25,
            valence=index / 30, dominance=0.75, raw_labels={"note": "kept"},
        )
        for index, sentence in enumerate(itertools.islice(sentences("train"), 30))
    ]  # fmt: skip
    write_manifest(tmp_path / "in.jsonl", rows)
    return tmp_path / "in.jsonl"


def command(manifest, out, *more):
    words = ["prepare", "responses", str(manifest), "--out", str(out)]
    return [*words, "--language_model", SHIPPED, "--per_shard", "3", *more]


def test_every_other_field_stays_and_the_answer_is_the_bare_model_s(manifest, tmp_path):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), batch_size=7, per_shard=20)
    before, after = read_manifest(manifest), read_manifest(out)
    for old, new in zip(before, after, strict=True):
        assert new.response and not new.response_cut
        new.response = None
        assert old == new
    bare = LanguageModel.from_pretrained(SHIPPED)
    first = before[0]
    text = bare.tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{first.transcript}(with a {first.emotion} emotional tone)."}],
        tokenize=False, add_generation_prompt=True,
    )  # fmt: skip
    ids = torch.tensor([bare.tokenizer(text, add_special_tokens=False).input_ids])
    said = bare.model.generate(ids, max_new_tokens=64, do_sample=False, attention_mask=torch.ones_like(ids))
    expected = bare.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert read_manifest(out)[0].response == expected


def test_an_answer_leaves_no_other_question_beside_it(manifest, tmp_path):
    rows = read_manifest(manifest)
    for row in rows[:9]:
        row.prompt, row.system = "Say it again: {speech}", "You repeat."
    write_manifest(tmp_path / "asked.jsonl", rows)
    plain, asked = (
        read_manifest(prepare_responses(source, tmp_path / f"{source.stem}_out.jsonl", SHIPPED, Prompt()))
        for source in (manifest, tmp_path / "asked.jsonl")
    )
    assert plain == asked and not any(row.prompt or row.system for row in asked)


def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_result(manifest, tmp_path):
    whole = prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt(), 3, None, 3)
    out = tmp_path / "killed.jsonl"
    shards = tmp_path / "killed.jsonl.shards"
    process = fork(command(manifest, out, "--batch_size", "3"))
    while len(list(shards.glob("part-*.parquet"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = {path: path.stat().st_mtime_ns for path in shards.glob("part-*.parquet")}
    assert 3 <= len(left) < 10 and not out.exists()
    # What a kill in the middle of a write leaves behind.
    (shards / ".part-00009.parquet").write_bytes(b"half")
    prepare_responses(manifest, out, SHIPPED, Prompt(), 3, None, 3)
    assert out.read_bytes() == whole.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in left} == left
    for index in range(10):
        name = f"part-{index:05d}.parquet"
        assert (shards / name).read_bytes() == (tmp_path / "whole.jsonl.shards" / name).read_bytes()


def test_interrupted_in_every_batch_it_still_ends_with_the_same_result(manifest, tmp_path, monkeypatch):
    rows = read_manifest(manifest)[:8]
    write_manifest(manifest, rows)
    whole = prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt(), 1, None, 2)
    out, generate, left = tmp_path / "o.jsonl", LanguageModel.generate, [0]

    def _fails(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return generate(*args, **kwargs)

    monkeypatch.setattr(LanguageModel, "generate", _fails)
    runs = 0
    while not out.exists():
        # Never three batches in a row: a shard of two just fits.
        left[0] = 3 if runs % 2 else 1
        runs += 1
        assert runs < 20
        with contextlib.suppress(KeyboardInterrupt):
            prepare_responses(manifest, out, SHIPPED, Prompt(), 1, None, 2)
    assert runs > 4 and out.read_bytes() == whole.read_bytes()


def test_interrupted_while_the_manifest_is_written_it_is_written_by_the_next_run(manifest, tmp_path, monkeypatch):
    whole = prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt())

    def _half(path, utterances):
        path.with_name(f".{path.name}").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("empathy_lightning.preparation.responses.write_manifest", _half)
        with pytest.raises(KeyboardInterrupt):
            prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt())
    assert not (tmp_path / "o.jsonl").exists()
    assert prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt()).read_bytes() == whole.read_bytes()


def test_processes_divide_the_shards_and_the_last_writes_the_manifest(manifest, tmp_path, monkeypatch, capsys):
    alone = prepare_responses(manifest, tmp_path / "alone.parquet", SHIPPED, Prompt(), 3, None, 3)
    out = tmp_path / "together.parquet"
    for rank in (2, 0, 1):
        assert not out.exists()
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        prepare_responses(manifest, out, SHIPPED, Prompt(), 3, None, 3)
        done = {int(path.stem.removeprefix("part-")) % 3 for path in (tmp_path / f"{out.name}.shards").glob("part*")}
        assert rank in done
    assert "the one that ends last" in capsys.readouterr().out
    assert read_manifest(out) == read_manifest(alone)
    assert not [path for path in tmp_path.rglob(".*") if path.is_file() and path.suffix != ".lock"]


def test_another_selection_asks_nothing_again(manifest, tmp_path, monkeypatch):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt())
    monkeypatch.setattr(engines.Generation, "answerer", lambda self: pytest.fail("the model was asked again"))
    monkeypatch.setattr(LanguageModel, "generate", lambda *a, **k: pytest.fail("the model was asked again"))
    prepare_responses(manifest, out, SHIPPED, Prompt(), selection=ResponseSelection(overlap=0.5))
    report = json.loads((tmp_path / "o.jsonl.report.json").read_text())
    kept = read_manifest(out)
    assert report["kept"] == len(kept) < 30 == report["utterances"]
    assert report["reasons"]["n-grams of another"] == 30 - len(kept) == len(report["dropped"])
    names = {u.id for u in kept}
    assert all(drop["like"] in names and drop["id"] not in names for drop in report["dropped"])


def test_shards_that_answer_something_else_are_refused(manifest, tmp_path):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt())
    with pytest.raises(InputError, match="max_new_tokens changed"):
        prepare_responses(manifest, out, SHIPPED, Prompt(), max_new_tokens=3)
    rows = read_manifest(manifest)
    rows[0].transcript = "I sold the house."
    write_manifest(manifest, rows)
    with pytest.raises(InputError, match="utterances changed"):
        prepare_responses(manifest, out, SHIPPED, Prompt())


@pytest.mark.parametrize("content", ['{"language_model": "sma', "[]", "null"])
def test_a_damaged_claim_is_one_line(manifest, tmp_path, content):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), max_new_tokens=2)
    (tmp_path / "o.jsonl.shards" / "made_from.json").write_text(content)
    with pytest.raises(InputError, match=r"made_from\.json is damaged"):
        prepare_responses(manifest, out, SHIPPED, Prompt(), max_new_tokens=2)


def test_a_bad_prompt_leaves_nothing_in_the_way(manifest, tmp_path):
    with pytest.raises(InputError, match="slot"):
        prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt("hello"))
    assert prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt()).is_file()


def test_replies_at_the_cap_are_marked_and_can_be_dropped(manifest, tmp_path):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), max_new_tokens=15)
    rows = read_manifest(out)
    whole = {u.id: u.response for u in read_manifest(prepare_responses(manifest, tmp_path / "w", SHIPPED, Prompt()))}
    assert any(u.response_cut for u in rows)
    for row in rows:
        assert whole[row.id].startswith(row.response) and row.response_cut == (whole[row.id] != row.response)
    strict = ResponseSelection(rules=(cut,))
    prepare_responses(manifest, out, SHIPPED, Prompt(), selection=strict, max_new_tokens=15)
    assert [u.id for u in read_manifest(out)] == [u.id for u in rows if not u.response_cut]


def test_a_prompt_too_long_for_the_model_costs_only_itself(manifest, tmp_path):
    whole = read_manifest(prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt()))
    rows = read_manifest(manifest)
    rows[3].transcript, rows[3].response = "sister " * 2048, "an older answer"
    write_manifest(manifest, rows)
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), per_shard=7)
    assert read_manifest(out) == whole[:3] + whole[4:]
    (drop,) = json.loads((tmp_path / "o.jsonl.report.json").read_text())["dropped"]
    assert drop == {"corpus": "c", "id": "u03", "reason": "prompt too long for the model", "response": None}


def test_any_language_is_asked_about_and_what_is_no_text_is_reported(manifest, tmp_path):
    rows = read_manifest(manifest)[:5]
    rows[0].transcript = "Ich bin müde 😀 你好 مرحبا \u200f\x00"
    rows[1].transcript = "a {emotion} {speech} \r\n<|im_end|>"
    rows[2].id = "ünï/\\ x"
    # What Latin-1 bytes in a manifest become: once in the words, once in a file's name.
    rows[3].transcript = "m\udcfcde"
    rows[4].path = "m\udcfcde.wav"
    write_manifest(manifest, rows)
    for name in ("o.jsonl", "o.parquet"):
        out = prepare_responses(manifest, tmp_path / name, SHIPPED, Prompt(), per_shard=2, max_left_out=0.5)
        kept = {u.id: u for u in read_manifest(out)}
        assert {i: (u.transcript, u.emotion) for i, u in kept.items()} == {
            u.id: (u.transcript, u.emotion) for u in rows[:3]
        }
        assert all(u.response for u in kept.values())
        assert json.loads((tmp_path / f"{name}.report.json").read_text())["reasons"] == {"text that is not UTF-8": 2}


def test_damaged_shards_are_made_anew(manifest, tmp_path):
    whole = prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt(), 3, None, 5, max_new_tokens=4)
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), 3, None, 5, max_new_tokens=4)
    paths = sorted((tmp_path / "o.jsonl.shards").glob("part-*.parquet"))
    good = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"")
    paths[1].write_bytes(good[1][: len(good[1]) // 2])
    paths[2].write_bytes(good[2][:4] + bytes(len(good[2]) // 2) + good[2][4 + len(good[2]) // 2 :])
    paths[3].write_bytes(good[5])
    paths[4].unlink()
    out.unlink()
    prepare_responses(manifest, out, SHIPPED, Prompt(), 3, None, 5, max_new_tokens=4)
    assert out.read_bytes() == whole.read_bytes() and [path.read_bytes() for path in paths] == good


def test_a_damaged_shard_of_another_process_is_left_to_it(manifest, tmp_path, monkeypatch, capsys):
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), 3, None, 15, max_new_tokens=4)
    whole = out.read_bytes()
    out.write_text("")
    (tmp_path / "o.jsonl.shards" / "part-00001.parquet").write_bytes(b"PAR1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in enumerate((b"", whole)):
        monkeypatch.setenv("RANK", str(rank))
        prepare_responses(manifest, out, SHIPPED, Prompt(), 3, None, 15, max_new_tokens=4)
        assert out.read_bytes() == expected
    assert capsys.readouterr().out.count("the one that ends last") == 1


def test_two_processes_do_not_make_the_same_shards_at_once(manifest, tmp_path):
    shards = tmp_path / "o.jsonl.shards"
    with alone(shards), pytest.raises(InputError, match="another process makes"):
        prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt())
    assert not list(shards.glob("part-*"))
    assert len(read_manifest(prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt()))) == 30


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(manifest, tmp_path, capsys, monkeypatch):
    # There was still room when it was tried.
    monkeypatch.setattr("empathy_lightning.files._BLOCK", 1)
    whole = prepare_responses(manifest, tmp_path / "whole.jsonl", SHIPPED, Prompt(), 64, None, 3, max_new_tokens=4)
    out = tmp_path / "o.jsonl"
    words = command(manifest, out, "--max_new_tokens", "4")
    shard = (tmp_path / "whole.jsonl.shards" / "part-00000.parquet").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most, parts in ((shard // 2, 0), (shard + 200, 10)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            assert main(words) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error:") and "cannot be written" in error
        names = sorted(path.name for path in (tmp_path / "o.jsonl.shards").iterdir())
        parts = [f"part-{index:05d}.parquet" for index in range(parts)]
        assert names == [".process0.lock", "made_from.json", *parts, "settled-prompt.json"]
        assert not out.exists()
    assert main(words) == 0 and out.read_bytes() == whole.read_bytes()


def test_sampled_answers_repeat_with_their_seed(manifest, tmp_path):
    def _sampled(name, seed, per_shard=16):
        out = tmp_path / name
        prepare_responses(manifest, out, SHIPPED, Prompt(), 8, None, per_shard, temperature=1.5, seed=seed)
        return [u.response for u in read_manifest(out)]

    assert _sampled("a.jsonl", 1) == _sampled("b.jsonl", 1) != _sampled("c.jsonl", 2)


def test_what_cannot_be_asked_about_is_reported(manifest, tmp_path):
    rows = read_manifest(manifest)
    rows[3].transcript, rows[4].emotion = " ", None
    write_manifest(manifest, rows)
    with pytest.raises(InputError, match=r"2 of 30 utterances would be lost: .*allow it with --allow_left_out"):
        prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt())
    out = prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), max_left_out=0.1)
    assert json.loads((tmp_path / "o.jsonl.report.json").read_text())["reasons"] == {
        "no transcript": 1,
        "no emotion label": 1,
    }
    assert len(read_manifest(out)) == 28
    for row in rows:
        row.emotion = None
    write_manifest(manifest, rows)
    with pytest.raises(InputError, match="no emotion label"):
        prepare_responses(manifest, tmp_path / "p.jsonl", SHIPPED, Prompt())


def test_the_command_speaks_the_papers_prompts(manifest, tmp_path, capsys):
    out = tmp_path / "o.parquet"
    assert main([*command(manifest, out, "--paper", "re_llm"), "--max_words", "6"]) == 0
    said = json.loads((tmp_path / "o.parquet.shards" / "made_from.json").read_text())
    assert said["max_new_tokens"] == 48 and said["system"] == "You are a helpful assistant."
    assert said["user"] == (
        "Continue the following sentence that reflects a '{emotion}' emotion tone in a coherent style: {speech}"
    )
    assert all(len(u.response.split()) <= 6 for u in read_manifest(out))
    assert "too long" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--paper", "re_llm", "--prompt", "{speech}"], "not both"),
        (["--max_overlap", "2"], "overlap of 2.0"),
        (["--batch_size", "0"], "--batch_size must be"),
        (["--paper", "gpt"], '"gpt" for --'),
        (["--refusals", "all"], '"all" for --'),
        (["--engine", "magic"], '"magic" for --'),
        (["--dtype", "float3"], '"float3" for --'),
    ],
)
def test_bad_choices_are_one_line(manifest, tmp_path, capsys, extra, reason):
    assert main(command(manifest, tmp_path / "o.jsonl", *extra)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and reason in error
    assert not (tmp_path / "o.jsonl").exists()


def test_a_model_that_takes_no_embeddings_is_one_line(manifest, tmp_path, capsys):
    tiny("openai-gpt").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    words = command(manifest, tmp_path / "o.jsonl", "--language_model", str(tmp_path / "model"))
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:") and "transformers cannot generate from embeddings with it" in error


def test_without_vllm_the_engine_says_so(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match="vLLM is not installed"):
        prepare_responses(manifest, tmp_path / "o.jsonl", SHIPPED, Prompt(), engine="vllm")


def test_a_manifest_without_its_shards_is_refused_or_made_anew(manifest, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    write_manifest(out, read_manifest(manifest)[:2])
    before = out.read_bytes()
    assert main(command(manifest, out)) == 2
    assert "without o.jsonl.shards" in capsys.readouterr().err and out.read_bytes() == before
    assert main(command(manifest, out, "--again")) == 0
    assert [u.id for u in read_manifest(out)] == [u.id for u in read_manifest(manifest)]


def test_a_label_that_is_no_emotion_word_is_refused_before_the_model_answers(manifest, tmp_path, capsys):
    rows = read_manifest(manifest)
    for row in rows[::2]:
        row.emotion = "ang"
    write_manifest(manifest, rows)
    words = command(manifest, tmp_path / "out.jsonl")
    assert main(words) == 2
    assert "15 of 30 utterances would be lost: 15 labelled 'ang'" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl.shards").exists()
    assert main([*words, "--without_emotion"]) == 0  # No word of the labels is said then.
