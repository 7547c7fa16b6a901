"""What is understood of speech, against figures that are worked out by hand."""

import json
from dataclasses import replace

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.data import write_manifest
from empathy_lightning.metrics.text import chrf
from empathy_lightning.utterance import Utterance

REPLIES = ("Paris is the capital of France.", "A cat sleeps all day.", "Bread is made of flour.")
SAID = ("What is the capital of France?", "Do cats sleep?", "How do I bake bread?")


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs = enumerate(zip(SAID, REPLIES, strict=True))
    found = [Utterance(f"{i}", "q", "a.wav", split="test", transcript=said, response=r) for i, (said, r) in pairs]
    write_manifest("expected.jsonl", found)
    return found


def written(name, rows, **fields):
    """The rows with another value of a field each."""
    ((field, values),) = fields.items()
    write_manifest(f"{name}.jsonl", [replace(u, **{field: v}) for u, v in zip(rows, values, strict=True)])
    return f"--{name}={name}.jsonl"


def figures(*words):
    assert main(["evaluate", "understanding", "expected.jsonl", "--out", "figures.json", *words]) == 0
    with open("figures.json") as file:
        return json.load(file)


def test_a_bot_between_the_floor_and_the_cascade(rows, capsys):
    half = [REPLIES[0], REPLIES[1], REPLIES[0]]
    found = figures(
        written("replies", rows, response=half),
        written("cascade", rows, response=REPLIES),
        written("repeated", rows, response=["what is the capital of france", "Do cats sleep?", "I bake"]),
        written("heard", rows, transcript=["What is a capital of France?", "Do cats sleep?", "How do I bake bread?"]),
    )
    others = [*REPLIES[1:], REPLIES[0]]
    floor = sum(chrf([other], [own]) for other, own in zip(others, REPLIES, strict=True)) / 3
    reached = (2 + chrf([REPLIES[0]], [REPLIES[2]])) / 3
    assert found["likeness_floor"]["value"] == pytest.approx(floor, abs=1e-5)
    assert found["likeness_replies"]["value"] == pytest.approx(reached, abs=1e-5)
    assert found["likeness_cascade"]["value"] == 1.0
    assert found["share_from_floor_to_cascade"] == pytest.approx((reached - floor) / (1 - floor), abs=1e-3)
    assert found["share_from_floor_to_1"] == found["share_from_floor_to_cascade"]
    # Three words are missing of fourteen; one is another.
    assert found["word_error_rate_repeated"]["value"] == pytest.approx(3 / 14, abs=1e-5)
    assert found["word_error_rate_heard"]["value"] == pytest.approx(1 / 14, abs=1e-5)
    assert [row["word_errors_repeated"] for row in found["each"]] == [0, 0, 3]
    assert "share_from_floor_to_cascade" in capsys.readouterr().out


def test_what_is_left_out_is_not_measured(rows):
    found = figures()
    assert set(found) == {"utterances", "left_out", "likeness_floor", "each"} and found["left_out"] == 0


def test_all_figures_are_of_the_same_utterances(rows):
    write_manifest("replies.jsonl", rows[:2])
    found = figures("--replies=replies.jsonl", written("cascade", rows, response=[REPLIES[0], REPLIES[1], "None."]))
    assert (found["utterances"], found["left_out"], len(found["each"])) == (2, 1, 2)
    assert found["likeness_cascade"]["value"] == found["likeness_replies"]["value"] == 1.0


def test_other_utterances_are_refused(rows, capsys):
    write_manifest("replies.jsonl", [replace(u, id=f"other{u.id}") for u in rows])
    assert main(["evaluate", "understanding", "expected.jsonl", "--replies=replies.jsonl"]) == 2
    assert "replies.jsonl has none of the utterances" in capsys.readouterr().err
