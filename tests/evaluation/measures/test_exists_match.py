import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measures.exists_match import ExistsMatch, found_in, tokens_of
from tests.evaluation.measures.asked import replied, shown


@pytest.mark.parametrize(
    ("reply", "references", "found"),
    [
        ("It is Paris.", ["Paris"], True),
        ("it is PARIS", ["paris"], True),
        ("The Parisians know.", ["Paris"], False),
        ("Sir Edward Elgar wrote it.", ["Elgar, Edward", "Edward Elgar"], True),
        ("Edward William Elgar", ["Edward Elgar"], False),
        ("U.S.A. won", ["USA"], False),
        ("U. S. A. won", ["u.s.a."], True),
        ("It costs $5.", ["$ 5"], True),
        ("5,000 people", ["5000"], False),
        ("5,000 people", ["5 , 000"], True),
        ("Zu\u0308rich", ["z\u00fcrich"], True),
        ("Zurich", ["Z\u00fcrich"], False),
        ("\u5317\u4eac\u662f\u9996\u90fd", ["\u5317\u4eac"], False),  # Chinese has no blanks: one run of letters.
        ("\u5317\u4eac\u3002", ["\u5317\u4eac"], True),
        ("rock-and-roll", ["rock and roll"], False),
        ("New\nYork", ["new york"], True),
        ("", ["Paris"], False),
        (None, ["Paris"], None),
        ("Paris", [], None),
        ("Paris", [" ", ""], None),
        ("Paris!", ["", "!"], True),
    ],
)
def test_an_answer_is_found_as_a_run_of_tokens(reply, references, found):
    assert found_in(reply, references) is found


def independent(reply, reference):
    """The same rule by regular expressions over tokens that are joined."""

    def _tokens(text):
        run, out = "", []
        for character in unicodedata.normalize("NFD", text):
            if re.match(r"[LNM]", unicodedata.category(character)):
                run += character
                continue
            if run:
                out.append(run)
            run = ""
            if not re.match(r"[ZC]", unicodedata.category(character)):
                out.append(character)
        return [token.lower() for token in ([*out, run] if run else out)]

    wanted, said = _tokens(reference), _tokens(reply)
    return "\0" + "\0".join(wanted) + "\0" in "\0" + "\0".join(said) + "\0" if wanted else None


TEXT = st.text(st.sampled_from("ab\u00fcA\u0308u \n.,-5\u5317\U0001f600\u200b'"), max_size=12)


@settings(max_examples=300, deadline=None)
@given(TEXT, st.lists(TEXT, max_size=3))
def test_it_agrees_with_another_way_to_say_the_rule(reply, references):
    each = [independent(reply, reference) for reference in references]
    known = [found for found in each if found is not None]
    assert found_in(reply, references) == (any(known) if known else None)


@settings(max_examples=200, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_an_answer_between_other_words_is_found_and_inside_a_word_not(before, answer, after):
    tokens = tokens_of(answer)
    if tokens:
        assert found_in(f"{before} {answer.upper()} {after}", [unicodedata.normalize("NFC", answer.upper())])
    if tokens and tokens[-1][-1].isalnum():
        assert not found_in(f"{' '.join(tokens)}x", [answer])


@given(TEXT)
def test_tokens_lose_nothing_that_can_be_seen(text):
    seen = [c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c)[0] not in "ZC"]
    assert "".join(tokens_of(text)) == "".join(seen).lower()


def test_figures_are_shares_of_the_replies_that_have_references():
    replies = [
        replied("Paris", "Paris"),
        replied("Rome", "Paris", "Lutetia"),
        replied("Oh"),
        replied("lutetia", "x", "Lutetia"),
    ]
    measured = ExistsMatch()(replies)
    assert measured.rows == [{"correct": 1}, {"correct": 0}, None, {"correct": 1}]
    assert shown(measured, "replies", "correct") == [3, pytest.approx(2 / 3, abs=1e-6)]
    assert ExistsMatch()([replied("Oh")]).figures == {"replies": 0} == ExistsMatch()([]).figures


def test_a_recogniser_that_is_none_is_refused_before_the_work(tmp_path):
    with pytest.raises(InputError, match="speech recogniser"):
        ExistsMatch(asr=str(tmp_path))
