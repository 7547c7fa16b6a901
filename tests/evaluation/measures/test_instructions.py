"""Instructions that a program checks, one text that follows each of IFEval's kinds and one that does not."""

import importlib.util
import json

import pytest

from empathy_lightning.__main__ import main
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.instruction_checks import CHECKS, follows, follows_loosely
from tests.suites import voicebench

KINDS = [
    ("keywords:existence", {"keywords": ["dog", "cat"]}, "A Dog met a cat.", "A dog met me."),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "at least"}, "Sea, sea!", "The sea."),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "less than"}, "The sea.", "Sea, sea!"),
    ("keywords:forbidden_words", {"forbidden_words": ["can"]}, "A candle.", "I CAN."),
    ("keywords:letter_frequency", {"letter": "q", "let_frequency": 2, "let_relation": "at least"}, "Quite Q", "Quit"),
    ("length_constraints:number_sentences",
     {"num_sentences": 3, "relation": "less than"}, "Dr. No is in. Go!", "He sat. It ran. We go."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One.\n***\n***\nTwo."),
    ("length_constraints:number_words", {"num_words": 4, "relation": "at least"}, "It is a dog.", "It's a."),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "One.\n\n\"Then, two.", "Then.\n\nTwo."),
    ("length_constraints:nth_paragraph_first_word",
     {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"}, "One.\n\nthen", "One.\n\nthen\n\nthree"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name] of [place]", "Dear [name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. Eat.", "Bye. PS"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p.s. Eat.", "P.S. Eat."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n**two**"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and ** **"),
    ("detectable_format:multiple_sections", {"section_spliter": "SECTION", "num_sections": 2},
     "SECTION 1\na\nSECTION 2\nb", "SECTION 1\na"),
    ("detectable_format:json_format", {}, '```JSON\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Sorrow>>\nI hear you.", "<< >>"),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Write it."}, "WRITE IT. So.", "So. Write it."),
    ("startend:end_checker", {"end_phrase": "That is all."}, 'Well. that is all."', "That is all. Bye"),
    ("startend:quotation", {}, ' "Said." ', '"'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "less than"}, "I go", "GO UP"),
    ("change_case:english_capital", {}, "THIS IS HOW I SPEAK.", "THIS IS how I SPEAK."),
    ("change_case:english_lowercase", {}, "this is how i speak.", "This is how i speak."),
    ("punctuation:no_comma", {}, "One and two.", "One, two."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "good", "bad"), KINDS)
def test_a_kind_is_followed_or_not(kind, arguments, good, bad):
    assert follows(kind, {**arguments, "unused": None}, good) is True
    assert follows(kind, arguments, bad) is False


def test_all_kinds_of_ifeval_are_there():
    assert len(CHECKS) == 25 and {kind for kind, *_ in KINDS} == set(CHECKS) - {"language:response_language"}
    known = importlib.util.find_spec("langdetect") is not None
    german = follows(
        "language:response_language", {"language": "de"}, "Das tut mir sehr leid für dich und deine Mutter."
    )
    assert german is (True if known else None)


def test_loosely_lines_at_the_ends_and_asterisks_do_not_count():
    ends = ("startend:end_checker", {"end_phrase": "Any other questions?"})
    assert follows(*ends, "Well. **Any other questions?**") is False
    assert follows_loosely(*ends, "Well. **Any other questions?**") is True
    quoted = 'Sure, here it is:\n"I am sorry."\nGood luck!'
    assert (follows("startend:quotation", {}, quoted), follows_loosely("startend:quotation", {}, quoted)) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("keywords:existance", {}, "did you mean keywords:existence?"),
        ("length_constraints:number_words", {"num_words": 4}, "relation"),
        ("length_constraints:number_words", {"num_words": 4, "relation": "about"}, "'less than' or 'at least'"),
    ],
)
def test_what_is_no_instruction_is_told(kind, arguments, told):
    with pytest.raises(InputError, match=told):
        follows(kind, arguments, "x")


def test_voicebench_s_instructions_and_yes_or_no_through_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    voicebench.write(tmp_path / "data")
    assert main(["prepare", "suite", "voicebench", "data", "--out", "questions.jsonl"]) == 0
    said = {"ifeval-00001": "One, two three.", "bbh-00001": "Yes, he lies.", "bbh-00002": "I would go for (A)."}
    rows = []
    for question in read_manifest("questions.jsonl"):
        question.response = said.get(question.id)
        rows.append(question)
    write_manifest("replies.jsonl", [row for row in rows if row.response])
    measures = ["instructions", "multiple_choice"]
    assert main(["evaluate", "run", "--replies", "replies.jsonl", "--out", "out", "--measures", *measures]) == 0
    suite = json.loads((tmp_path / "out/metrics.json").read_text())["suites"]["voicebench"]["measures"]
    figures = suite["instructions"]["figures"]
    shares = {name: figures[name]["value"] for name in ("instructions_strict", "instructions_loose", "all_strict")}
    assert shares == {"instructions_strict": 0.5, "instructions_loose": 0.5, "all_strict": 0}
    lines = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    row = next(line["measures"]["instructions"] for line in lines if line["id"] == "ifeval-00001")
    assert row["followed"] == {"punctuation:no_comma": False, "length_constraints:number_words": True}
    chosen = {line["id"]: line["measures"]["multiple_choice"] for line in lines}
    assert chosen["bbh-00001"]["chosen"] == "YES" and chosen["bbh-00002"]["chosen"] == "A"
    assert (chosen["bbh-00001"]["correct"], chosen["bbh-00002"]["correct"], chosen["ifeval-00001"]) == (1, 0, None)
