"""Texts of users: asked of a language model, filled from templates, chosen, and split without leaks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest
from empathy_lightning.preparation import instructions
from empathy_lightning.preparation.diversity import near_duplicates
from empathy_lightning.preparation.engines import Answer, Answerer, Generation
from empathy_lightning.preparation.instructions import sentences_of, unfit

SHIPPED = "small-world/language_model"

WISHES = {
    "topics": ["tea", "trains"],
    "openings": ["How", "Why"],
    "requests": ["Ask about {topic}.", 'Ask about {topic} with "{opening}".'],
    "templates": ["Where is the {colour} {thing}?", "my {thing} and your {thing} are {colour}."],
    "words": {"colour": ["red", "green", "blue"], "thing": ["lamp", "gate", "boat", "coat"]},
}


@pytest.fixture
def wishes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_wishes()


def write_wishes(**changed):
    with open("wishes.yaml", "w") as file:
        yaml.safe_dump(WISHES | changed, file)
    return "wishes.yaml"


def prepare(*more, out="out.jsonl", model=SHIPPED):
    return main(["prepare", "instructions", "wishes.yaml", "--out", out, "--language_model", model, *more])


def writer(monkeypatch, interrupted_after=None):
    """A language model whose every reply is a list, made of the request and its seed; perhaps it breaks off."""
    asked = []

    def _answer(prompts, seeds):
        if interrupted_after is not None and len(asked) >= interrupted_after:
            raise KeyboardInterrupt
        asked.extend(seeds)
        lists = [
            f"Here is a list:\n1. How does number {'abcdefghij'[seed % 10]} like {'klmnopqrst'[seed // 10 % 10]}?\n"
            f"2. Why would {'uvwxyz'[seed % 6]} go {'abcdefg'[seed // 7 % 7]} {'hijklmn'[seed // 49 % 7]}?\n- 3 x 4"
            for seed in seeds
        ]
        return [Answer(text, False) for text in lists]

    def _answerer(self):
        from empathy_lightning.modules.pretrained import load_tokenizer

        return Answerer(_answer, load_tokenizer(self.language_model), None, self.batch_size)

    monkeypatch.setattr(Generation, "answerer", _answerer)
    return asked


def test_the_models_texts_and_the_templates_are_chosen_and_split(wishes, monkeypatch, capsys):
    writer(monkeypatch)
    assert prepare("--asked", "60", "--filled", "40", "--per_shard", "7", "--held_out", "0.2") == 0
    rows = read_manifest("out.jsonl")
    assert {u.corpus for u in rows} == {"out"} and {u.language for u in rows} == {"en"}
    templates = [u for u in rows if u.raw_labels["written_by"] == "template"]
    written = [u for u in rows if u.raw_labels["written_by"].startswith("request ")]
    assert len(templates) + len(written) == len(rows) and len(written) > 20 and len(templates) > 5
    assert {u.split for u in templates} == {"train"}
    assert {u.split for u in written} == {"train", "validation", "test"}
    assert all(u.transcript.startswith(("Where is the ", "My ")) for u in templates)
    texts = [u.transcript for u in rows]
    assert near_duplicates(texts, 0.5) == {} and len(set(texts)) == len(texts)
    figures = json.loads(Path("out.jsonl.report.json").read_text())
    # "Here is a list:" and "3 x 4" of each reply.
    assert figures["kept"] == len(rows)
    assert figures["dropped"]["not one sentence of plain words"] == 60 * 2
    assert f"{len(rows)} texts" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_to_the_same_result(wishes, monkeypatch):
    writer(monkeypatch)
    assert prepare("--asked", "24", "--filled", "9", "--per_shard", "6") == 0
    writer(monkeypatch, interrupted_after=12)
    # 128 + SIGINT, as shells say it.
    assert prepare("--asked", "24", "--filled", "9", "--per_shard", "6", "--batch_size", "6", out="again.jsonl") == 130
    asked = writer(monkeypatch)
    assert prepare("--asked", "24", "--filled", "9", "--per_shard", "6", out="again.jsonl") == 0
    assert len(asked) == 12
    assert read_manifest("again.jsonl") == [replace(u, corpus="again") for u in read_manifest("out.jsonl")]


def test_another_seed_writes_other_texts_and_is_refused_in_the_same_place(wishes, monkeypatch, capsys):
    writer(monkeypatch)
    assert prepare("--asked", "6", "--filled", "9") == 0
    first = read_manifest("out.jsonl")
    assert prepare("--asked", "6", "--filled", "9", "--seed", "1") == 2
    assert "made from something else (seed, utterances changed)" in capsys.readouterr().err
    assert prepare("--asked", "6", "--filled", "9", "--seed", "1", "--again") == 0
    assert [u.transcript for u in read_manifest("out.jsonl")] != [u.transcript for u in first]


def test_the_shipped_model_is_asked_as_any_other(wishes):
    assert prepare("--asked", "4", "--filled", "12", "--max_new_tokens", "8") == 0
    assert any(u.raw_labels["written_by"] == "template" for u in read_manifest("out.jsonl"))


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"requests": ["Ask about {topics}."]}, "nothing fills {topics}"),
        ({"words": {"colour": ["red"]}}, "nothing fills {thing}"),
        ({"topic": []}, "unknown key topic; there are topics"),
        ({"templates": []}, "no templates to fill"),
    ],
)
def test_wishes_that_cannot_be_met_are_told_in_one_line(wishes, changed, said, capsys):
    write_wishes(**changed)
    assert prepare("--asked", "0", "--filled", "3") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_items_of_lists_come_without_their_marks():
    reply = '1. "How are you?"\n2) *Who knows?*\n\n- Is it\u2019s own?\nQuestion 4: Why not?'
    assert list(sentences_of(reply)) == ["How are you?", "Who knows?", "Is it's own?", "Why not?"]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("How do cats sleep?", None),
        ("Why?", "too short or too long"),
        ("How do cats sleep? I wonder.", "not one sentence of plain words"),
        ("How do 3 cats sleep?", "not one sentence of plain words"),
        ("how do cats sleep?", "not one sentence of plain words"),
        ("How do you do how do you do?", "repeats its own words"),
        ("I'm sorry, but I can not.", "refusal"),
    ],
)
def test_what_is_no_instruction_is_told(text, reason):
    assert unfit(text, 3, 12) == reason


def test_the_shipped_wishes_fill_thousands_of_texts():
    wanted = instructions.read_wishes("recipe:real/instructions")
    texts = wanted.filled(400, seed=0)
    assert sum(unfit(text, 3, 12) is None for text in texts) > 380
    assert len({u.transcript for u in wanted.asked(300, seed=0)}) > 250
