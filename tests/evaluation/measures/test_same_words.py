"""Same words, other feeling: the suite, and the measure that no reader of words passes."""

import random
from itertools import combinations, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.fits import LikeReferences, NamesEmotion
from empathy_lightning.evaluation.measures import same_words
from empathy_lightning.evaluation.measures.same_words import SameWords
from empathy_lightning.metrics.text import chrf
from tests.corpora import cremad, esd, jl_corpus, ravdess
from tests.evaluation.measures.asked import replied, shown

SUITING = {
    "happy": "How wonderful, I am so glad for you!", "sad": "I am sorry, that must weigh on you.",
    "angry": "That would make anybody furious.",
}  # fmt: skip


def group(replies, words="The door is open.", references=SUITING, **fields):
    """Replies by feeling, to the same words of one speaker."""
    return [
        replied(
            reply, *([references[feeling]] if references else []), transcript=words, emotion=feeling,
            **{"speaker": "a", "language": "en", **fields},
        )
        for feeling, reply in replies.items()
    ]  # fmt: skip


def test_replies_that_fit_each_their_own_feeling_pass():
    heard = group({feeling: f"Well. {reply}" for feeling, reply in SUITING.items()})
    measured = SameWords()(heard)
    assert shown(measured, "replies", "groups", "pairs", "passed", "swapped", "different", "advantage") == [
        3, 1, 3, 1, 0, 1, 1,
    ]  # fmt: skip
    assert measured.rows == [{"passed": 1, "swapped": 0, "different": 1, "advantage": 1}] * 3
    assert measured.figures["fit"] == "likeness to the references"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=3, max_size=3))
def test_one_reply_to_the_same_words_passes_no_pair(reply, references):
    """Whatever it says, and whatever would have suited."""
    blind = group(dict.fromkeys(SUITING, reply), references=dict(zip(SUITING, references, strict=True)))
    measured = SameWords(permutations=20)(blind)
    assert shown(measured, "passed", "swapped", "different", "advantage", "p") == [0, 0, 0, 0, 1]


def test_a_reader_of_words_that_draws_its_replies_gains_nothing():
    """Its replies are of one distribution, whatever the feeling: over many groups nothing is left."""
    generator = random.Random(0)
    drawn, hearing = [], []
    for number in range(150):
        fields = {"speaker": str(number)}
        drawn += group({feeling: generator.choice(list(SUITING.values())) for feeling in SUITING}, **fields)
        own = {f: SUITING[f] if generator.random() < 0.5 else generator.choice(list(SUITING.values())) for f in SUITING}
        hearing += group(own, **fields)
    blind, heard = SameWords()(drawn), SameWords()(hearing)
    assert abs(blind.figures["advantage"]) < 0.05 < blind.figures["p"]
    assert blind.figures["passed"] > 0.05  # by chance, and as many are swapped
    assert heard.figures["advantage"] > 0.2 and heard.figures["p"] == pytest.approx(1 / 2001)


def test_the_probability_is_that_of_all_ways_to_deal_the_replies():
    """Of one group of three, by going through them all."""
    said = {"happy": "glad for you", "sad": "sorry, that must weigh", "angry": "anybody"}
    fits = {(r, q): chrf([said[r]], [SUITING[q]]) for r, q in product(SUITING, SUITING)}

    def _advantage(dealt):
        found = 0
        for a, b in combinations(SUITING, 2):
            left = fits[dealt[a], a] - fits[dealt[a], b]
            right = fits[dealt[b], b] - fits[dealt[b], a]
            found += (left > 0 and right > 0) - (left < 0 and right < 0)
        return found

    ways = [dict(zip(SUITING, order, strict=True)) for order in permutations(SUITING)]
    own = _advantage({feeling: feeling for feeling in SUITING})
    expected = sum(_advantage(way) >= own for way in ways) / len(ways)
    measured = SameWords(permutations=20_000)(group(said))
    assert measured.figures["advantage"] == pytest.approx(own / 3, abs=1e-6)
    assert measured.figures["p"] == pytest.approx(expected, abs=0.02)


def test_large_groups_are_tested_in_parts(monkeypatch):
    said = group({"happy": "glad for you", "sad": "sorry, that must weigh", "angry": "anybody"})
    whole = SameWords()(said).figures
    monkeypatch.setattr(same_words, "_AT_ONCE", 7)
    assert SameWords()(said).figures == whole


def test_swapped_replies_are_counted_against_it():
    measured = SameWords()(group({"happy": SUITING["sad"], "sad": SUITING["happy"]}))
    assert shown(measured, "passed", "swapped", "advantage") == [0, 1, -1]


def test_each_reply_counts_alike_however_many_pairs_it_has():
    replies = [*group({"happy": SUITING["happy"], "sad": SUITING["sad"]}), *group({"sad": SUITING["happy"]})]
    measured = SameWords()(replies)
    assert [row["passed"] for row in measured.rows] == [0.5, 1, 0] and measured.figures["pairs"] == 2
    assert measured.figures["passed"] == 0.5


def test_without_references_the_emotion_that_is_named_decides():
    replies = {"happy": "You sound happy.", "sad": "You sound sad.", "angry": "You sound cheerful or furious."}
    measured = SameWords(permutations=0)(group(replies, references=None))
    assert measured.figures["fit"] == "emotion named" and "p" not in measured.figures
    assert [row["passed"] for row in measured.rows] == [0.5, 0.5, 0]
    assert NamesEmotion()("I am furious", group({"angry": "", "sad": ""}, references=None)) == [1, 0]
    assert LikeReferences()("", group({"angry": "", "sad": ""})) == [0, 0]


def test_only_the_same_words_of_the_same_speaker_are_compared():
    alone = [
        *group({"happy": "a", "sad": "b"}), *group({"angry": "c"}, speaker="b"),
        *group({"angry": "d"}, "the DOOR is open"),
        *group({"angry": "e"}, "The door is shut."), *group({"angry": "f"}, language="de"),
        replied("g", transcript="The door is open.", speaker="a", language="en"),
        replied(None, transcript="The door is open.", speaker="a", language="en", emotion="angry"),
    ]  # fmt: skip
    measured = SameWords()(alone)
    assert [row is not None for row in measured.rows] == [True, True, False, True, *[False] * 4]
    assert shown(measured, "replies", "groups", "pairs") == [3, 1, 3]
    assert SameWords()([]).figures == {"replies": 0, "groups": 0, "pairs": 0}


class Longer:
    """A fit of a user's own: angry people are to be answered at length."""

    name, needs = "length", ("emotion",)

    def __call__(self, reply, questions):
        return [len(reply) if question.emotion == "angry" else -len(reply) for question in questions]


def test_a_fit_of_ones_own_takes_the_place():
    measured = SameWords(fit=Longer())(group({"angry": "A long reply to that.", "sad": ""}))
    assert measured.figures["fit"] == "length" and shown(measured, "passed") == [0]
    # A fit that needs references leaves out what has none.
    mixed = [*group({"angry": "a", "sad": "b"}), *group({"angry": "a", "sad": "b"}, references=None, speaker="b")]
    assert shown(SameWords(fit=LikeReferences())(mixed), "replies", "groups") == [2, 1]
    with pytest.raises(InputError, match="permutations"):
        SameWords(permutations=-1)


def exported(name, root, tmp_path, *more):
    assert main(["corpora", "export", name, str(root), "--out", str(tmp_path / "all.jsonl"), *more]) == 0
    words = ["prepare", "suite", "same_words", str(tmp_path / "all.jsonl"), "--out", str(tmp_path / "q.jsonl")]
    assert main(words) == 0
    return read_manifest(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    ("corpus", "writer"), [("ravdess", ravdess), ("cremad", cremad), ("jl_corpus", jl_corpus), ("esd", esd)]
)
def test_the_suite_takes_one_recording_of_each_speaker_words_and_feeling(corpus, writer, tmp_path, capsys):
    found = exported(corpus, writer.write(tmp_path / "corpus"), tmp_path, "--allow_left_out", "0.5")
    said = [(u.speaker, u.transcript, u.emotion) for u in found]
    assert said and len(set(said)) == len(said)
    feelings = {}
    for speaker, words, emotion in said:
        feelings.setdefault((speaker, words.lower()), set()).add(emotion)
    assert all(len(felt) > 1 for felt in feelings.values())
    assert {(u.suite, u.corpus, u.split) for u in found} == {("same_words", corpus, "test")}
    assert all(u.ability == u.emotion and u.references == [] for u in found)
    assert "read" in capsys.readouterr().err


def test_expected_responses_become_references_and_a_test_split_is_taken_alone(tmp_path, capsys):
    rows = []
    for number, (speaker, split) in enumerate(product("ab", ("train", "test"))):
        for feeling in ("sad", "happy"):
            rows.append(
                replied(
                    SUITING[feeling], id=f"{number}{feeling}", path=str(tmp_path / "q.wav"), transcript="Go.",
                        emotion=feeling, speaker=speaker,
                    split=split, units=[1, 2],
                )
            )  # fmt: skip
    write_manifest(tmp_path / "all.jsonl", rows)
    (tmp_path / "q.wav").write_bytes(b"sound")
    words = ["prepare", "suite", "same_words", str(tmp_path / "all.jsonl"), "--out", str(tmp_path / "q.jsonl")]
    assert main(words) == 0
    found = read_manifest(tmp_path / "q.jsonl")
    assert [u.id for u in found] == ["1happy", "1sad", "3happy", "3sad"]
    assert all((u.references, u.response, u.units) == ([SUITING[u.emotion]], None, None) for u in found)
    assert "4 of other splits than test" in capsys.readouterr().err
    write_manifest(tmp_path / "all.jsonl", [row for row in rows if row.emotion == "sad"])
    assert main([*words, "--again"]) == 2
    assert "words in one emotion alone" in capsys.readouterr().err
