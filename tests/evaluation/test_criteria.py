"""Criteria: those of the package, a user's own, what is wrong with one, and how answers are read."""

import subprocess
import sys

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.criterion_files import criterion_names, load_criterion, read_criterion
from empathy_lightning.evaluation.score_readers import Choice, InJson, InPattern, Scale, Unread
from empathy_lightning.utterance import Utterance

PERFECT = {
    "cogaudio_conflict": ('{"reasoning": "it fits", "score": 4}', 4),
    "echat": ("Fine. [[100]]", 100),
    "emotion_consensus": ("Happiness", "happy"),
    "empathy_given": ("providing", "providing"),
    "empathy_need": ("Seeking.", "seeking"),
    "freezeempath_acoustic": ("Both are met. [[10]]", 10),
    "freezeempath_empathy": ("[[10]]", 10),
    "freezeempath_quality": ("[[10]]", 10),
    "humdial_t3": ('```json\n{"insight": 5, "congruence": 5, "quality": 5}\n```', 5),
    "sd_eval": ("Rating: [[3]], no:\nRating: [[10]]", 10),
    "uro_dialogue": ("[[5]]", 5),
    "uro_under_emotion": ("[[5]]", 100),
    "voicebench_open": ("[[5]]", 5),
    "voicebench_sd_qa": ('"Yes"', 1),
    "vstyle_empathy": ("Step 6. [[5]]", 5),
}


def test_the_criteria_are_those_of_the_field_and_are_listed(capsys):
    assert criterion_names() == sorted(PERFECT)
    assert main(["evaluate", "criteria"]) == 0
    shown = capsys.readouterr().out
    for name in PERFECT:
        assert f"{name} (version 1, wording ours" in shown


@pytest.mark.parametrize("name", PERFECT)
def test_every_criterion_reads_the_answer_that_it_asks_for(name):
    criterion = load_criterion(name)
    answer, score = PERFECT[name]
    assert set(criterion.reader.read(answer).values()) == {score} and criterion.name == name
    everything = Utterance(
        id="1", corpus="c", path="x.wav", transcript="words", emotion="sad", response="answer", response_path="y.wav",
        ability="a", references=["r"], raw_labels={"history": "turns", "reply_heard_emotion": "calm"},
    )  # fmt: skip
    assert not criterion.wording.lacks(everything)
    filled = criterion.wording.filled(everything)
    # Every slot is filled: braces are left in examples of JSON alone.
    assert "{" not in filled.replace('{"', "") and all(word not in filled for word in ("None", "[]"))
    if "user" in criterion.wording.slots() and criterion.wording.user == "transcript":
        assert "words" in filled


def test_the_settings_of_the_published_rules():
    assert vars(load_criterion("sd_eval").sampling)["seed"] == 1337
    voicebench = load_criterion("voicebench_open")
    assert (voicebench.samples, voicebench.sampling.temperature, voicebench.sampling.top_p) == (3, 0.5, 0.95)
    humdial = load_criterion("humdial_t3")
    assert (humdial.attempts, humdial.sampling.top_k, humdial.sampling.seed) == (10, 20, 1234)
    assert load_criterion("vstyle_empathy").attempts == 5 and load_criterion("vstyle_empathy").wording.hears_reply


@pytest.mark.parametrize(
    ("reader", "answer", "told"),
    [
        (InPattern(r"\[\[(\d+)\]\]", Scale(1, 5)), "[[6]]", "6 is not on the scale"),
        (InPattern(r"\[\[(\d+)\]\]", Scale(1, 5)), "[[2]] and then [[6]]", "6 is not on the scale"),
        (InPattern(r"\[\[(\d+)\]\]", Scale(1, 10, only=(1, 5, 10))), "[[7]]", "not on the scale"),
        (InPattern(r"(\w+)", Scale(1, 5)), "five", "no number"),
        (InPattern(r"\[\[(\d+)\]\]", Scale(1, 5)), "", "no score"),
        (InJson(("a",), Scale(1, 5)), 'Sure: {"a": 3}', "no JSON"),
        (InJson(("a",), Scale(1, 5)), '{"a": 3', "no JSON"),
        (InJson(("a",), Scale(1, 5)), "[3]", "no JSON object"),
        (InJson(("a", "b"), Scale(1, 5)), '{"a": 3}', "no b"),
        (InJson(("a",), Scale(1, 5)), '{"a": "3"}', "no number"),
        (InJson(("a",), Scale(1, 5)), '{"a": true}', "no number"),
        (InJson(("a",), Scale(1, 5)), '{"a": NaN}', "not on the scale"),
        (Choice(("Yes", "No"), {}), "Yes and no", "none of Yes, No alone"),
        (Choice(("sad", "happy"), {}), "The text is sad.", "none of"),
        (Choice(("sad", "happy"), {}), "", "none of"),
        (Choice(("sad", "happy"), {}), "unhappy", "none of"),
    ],
)
def test_nothing_is_guessed(reader, answer, told):
    with pytest.raises(Unread, match=told):
        reader.read(answer)


OWN = """
name: own
version: 2
title: How short
source: mine
wording: yours
user: transcript
reply: text
score: {pattern: '(\\d)', scale: [1, 5]}
prompt: "{user} -> {reply}"
"""


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (("version: 2", "version: two"), "version is 'two'"),
        (("version: 2", "versoin: 2"), "did you mean version?"),
        (("title: How short\n", ""), "title is missing"),
        (("wording: yours", "wording: theirs"), "ours, published, yours"),
        (("user: transcript", "user: voice"), "user 'voice' is none of"),
        (("{user} ->", "{usr} ->"), "slot {usr}"),
        (("(\\d)", "\\d"), "needs one group"),
        (("(\\d)", "(\\d"), "score.pattern"),
        (("[1, 5]", "[5, 1]"), "not below"),
        (("[1, 5]", "5"), "lowest and the highest"),
        (("score: {pattern: '(\\d)', scale: [1, 5]}", "score: {choices: [Yes, No]}"), "put it in quotes"),
        (("score: {pattern: '(\\d)', scale: [1, 5]}", "score: 5"), "needs one of pattern"),
        (("score: {pattern: '(\\d)', scale: [1, 5]}", "score: {json: [asked], scale: [1, 5]}"), "named 'asked'"),
        (("score: {pattern: '(\\d)', scale: [1, 5]}", "score: {choices: [a, b], values: {a: x, b: 1}}"), "a number"),
        (("prompt:", "sampling: {temprature: 1}\nprompt:"), "did you mean temperature?"),
        (("prompt:", "sampling: {seed: yes}\nprompt:"), "sampling.seed"),
        (("prompt:", "samples: 0\nprompt:"), "samples is 0"),
        (("name: own", "name: [own"), "no YAML"),
    ],
)
def test_what_is_wrong_with_a_criterion_is_told(tmp_path, spoil, told):
    file = tmp_path / "own.yaml"
    assert OWN.replace(*spoil) != OWN
    file.write_text(OWN.replace(*spoil))
    with pytest.raises(InputError) as error:
        read_criterion(file)
    assert told in str(error.value) and str(file) in str(error.value)


def test_a_criterion_of_one_s_own(tmp_path):
    (tmp_path / "own.yaml").write_text(OWN)
    own = load_criterion(str(tmp_path / "own.yaml"))
    asked = own.wording.filled(Utterance(id="1", corpus="c", path="", transcript="a {reply}", response="b"))
    assert asked == "a {reply} -> b" and own.facts()["version"] == 2
    other = own.given("nothing", None)
    assert other.facts()["prompt_sha256"] != own.facts()["prompt_sha256"]
    assert other.wording.needs() == ("response",)


def test_a_judge_behind_an_address_needs_no_transformers():
    code = "import sys, empathy_lightning.evaluation.measures.judged; print('transformers' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
