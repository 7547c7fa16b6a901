import pytest
from hypothesis import given
from hypothesis import strategies as st

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measures.multiple_choice import MultipleChoice, letters_in
from empathy_lightning.evaluation.suites.asking import labels_of
from tests.evaluation.measures.asked import replied, shown

NAMES = {
    "B": "B", "b": "B", " (b) ": "B", "B.": "B", "**B**": "B", "B) happy": "B", "B: happy": "B", "B, because": "B",
    "B\nBecause it is.": "B", "The answer is B.": "B", "The answer is: [B]": "B", "**Answer:** B": "B",
    "I would choose B because of that": "B", "I'd go with option b.": "B", "Option B is right": "B", "A": "A", "a": "A",
    "The correct answer is (A) stone": "A", "B)happy": "B", "A.M.": "",
    "the answer is a": "A", "The answer is A, of course": "A",
    "The answer is B, not option C": "B", "\u7b54\u6848\u662fB": "B", "\u6211\u9009B\u3002": "B", "B\u3001x": "B",
    "(A) or (B)": "AB", "Answer A or answer B.": "AB", "A. No, the answer is B": "AB",
    "A friend of mine": "", "a dog": "", "The answer is a dog": "", "The answer is A friend": "",
    "Both": "", "But no": "", "D'accord": "", "The answer is not B": "", "Option Blue": "", "E": "", "": "",
    "I can't hear you": "", "b-sides": "",
}  # fmt: skip


@pytest.mark.parametrize("reply", NAMES)
def test_a_letter_counts_where_it_is_said_to_be_the_answer(reply):
    assert letters_in(reply, "ABCD") == set(NAMES[reply])


def test_the_text_of_one_option_names_it_where_no_letter_does():
    options = {"A": "sad", "B": "very happy", "C": "happy"}
    assert letters_in("She sounds sad to me.", "ABC", options) == {"A"}
    assert letters_in("She sounds sad, B", "ABC", options) == {"A"}
    assert letters_in("Answer: B, not sad", "ABC", options) == {"B"}
    assert letters_in("Very happy!", "ABC", options) == {"B", "C"}
    assert letters_in("Saddened.", "ABC", options) == set()


@given(st.sampled_from("ABCDEFGHIJ"), st.sampled_from(["{}", "({})", "The answer is {}.", "{}) it is", "option {}"]))
def test_each_of_ten_letters_is_named_by_itself(letter, form):
    assert letters_in(form.format(letter), "ABCDEFGHIJ") == {letter}


def test_what_names_none_or_several_is_wrong_and_reported():
    replies = [replied("B", "B"), replied("A", "B"), replied("Hm.", "B"), replied("(A) (B)", "B"), replied("B", "1936")]
    replies.append(replied("happy", "B", raw_labels=labels_of({"A": "sad", "B": "happy"})))
    measured = MultipleChoice()(replies)
    assert [row and row["chosen"] for row in measured.rows] == ["B", "A", None, None, None, "B"]
    assert [row and row["correct"] for row in measured.rows] == [1, 0, 0, 0, None, 1]
    assert shown(measured, "replies", "correct", "unmatched", "ambiguous") == [5, 0.4, 0.2, 0.2]
    assert MultipleChoice()([]).figures == {"replies": 0}
    assert MultipleChoice("AB")([replied("C", "C")]).rows == [None]


@pytest.mark.parametrize("letters", ["", "A", "abc", "A,B"])
def test_letters_that_are_none_are_refused(letters):
    with pytest.raises(InputError, match="two or more capital letters"):
        MultipleChoice(letters)
