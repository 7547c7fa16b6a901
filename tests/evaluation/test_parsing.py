"""Answers are understood in every form of an emotion's word, whatever corpus the categories come from."""

import re

import pytest

from empathy_lightning.corpora import CORPORA
from empathy_lightning.emotion_words import SPELLINGS, SYNONYMS, chosen_emotion, words_for
from empathy_lightning.evaluation.parsing import parse_words
from empathy_lightning.evaluation.recognisers import offered as word_offered
from empathy_lightning.papers import PAPERS
from tests.conftest import ROOT

CATEGORIES = {name: sorted({*corpus.emotions.values(), *corpus.counts} - {""}) for name, corpus in CORPORA.items()}
FORMS = [
    ("She sounds disgusted.", "disgust"),
    ("The speaker expresses disgust", "disgust"),
    ("He is fearful of the dark.", "fearful"),
    ("The emotion is fear.", "fearful"),
    ("They sound afraid", "fearful"),
    ("Surprise!", "surprised"),
    ("anger", "angry"),
    ("a deep sadness", "sad"),
    ("She is bored", "bored"),
    ("boredom", "bored"),
    ("with contempt", "contempt"),
    ("contemptuous", "contempt"),
    ("said in a matter-of-fact tone", "neutral"),
]


@pytest.mark.parametrize("name", CATEGORIES)
def test_all_words_of_a_corpus_s_categories_are_understood(name):
    emotions = CATEGORIES[name]
    for emotion in emotions:
        assert emotion in SPELLINGS, f"{name} has a category that the list does not know"
        for word in words_for(emotion):
            assert parse_words(f"She sounds {word.capitalize()}, I think.", emotions) == emotion
            assert parse_words(f"The emotion is not {word}.", emotions) is None


@pytest.mark.parametrize(("answer", "emotion"), FORMS)
def test_forms(answer, emotion):
    assert parse_words(answer, list(SPELLINGS)) == emotion


def test_a_task_may_spell_its_categories_as_it_likes():
    assert parse_words("She sounds disgusted.", ["Disgust", "Joy"]) == "Disgust"
    assert parse_words("She is happy and not sad.", ["joy", "sadness"]) == "joy"


def test_words_inside_others_do_not_count():
    assert parse_words("The tone is non-neutral and unhappy.", ["neutral", "happy", "sad"]) == "sad"


def test_no_word_stands_for_two_emotions():
    words = [word for name in SPELLINGS for word in (name, *SPELLINGS[name], *SYNONYMS.get(name, ()))]
    assert len(words) == len(set(words))


def offered(text):
    """The options of a question: '..., angry, happy, or surprise.'"""
    found = re.search(r"following options: ([^.]*)\.", text)
    return [word.strip().removeprefix("or ") for word in found[1].split(",")] if found else []


def questions():
    yield from (recipe.recognition.user for recipe in PAPERS.values())
    yield from (file.read_text() for file in sorted((ROOT / "examples").rglob("*.yaml")))


def test_the_options_of_all_questions_are_understood():
    asked = [options for text in questions() if (options := offered(text))]
    assert len(asked) >= len(PAPERS)
    for options in asked:
        for option in options:
            emotion = chosen_emotion(option, SPELLINGS)
            assert emotion is not None and parse_words(f"It is {option}.", list(SPELLINGS)) == emotion
    question = "Is it neutral, disgusted, or surprise?"
    words = [word_offered(name, question) for name in ("neutral", "disgust", "surprised", "sad")]
    assert words == ["neutral", "disgusted", "surprise", "sad"]


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        ("Sadly, the speaker sounds angry.", "angry"),
        ("I am glad you asked: the tone is angry.", "angry"),
        ("She speaks sadly.", "sad"),
        ("not at all sad, but happy", "happy"),
        ("not sad or angry but happy", "happy"),
        ("no longer happy; sad", "sad"),
        ("anything but happy; sad", "sad"),
    ],
)
def test_adverbs_and_wider_negations(answer, category):
    assert parse_words(answer, ["neutral", "happy", "sad", "angry", "surprised"]) == category
