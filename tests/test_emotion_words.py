"""One list of emotion words, against every parser of a corpus."""

from collections import Counter

import pytest

from empathy_lightning.corpora import CORPORA, EmoBox
from empathy_lightning.emotion_words import (
    SPELLINGS,
    SYNONYMS,
    chosen_emotion,
    emotion_named,
    suggested_emotion,
    words_for,
)


@pytest.mark.parametrize("corpus", [*CORPORA.values(), EmoBox], ids=lambda corpus: corpus.name)
def test_every_emotion_of_every_corpus_is_a_name_of_the_list(corpus):
    for name in {*corpus.emotions.values(), *corpus.counts}:
        assert emotion_named(name) == name


def test_no_word_stands_for_two_emotions():
    words = Counter(word for name in SPELLINGS for word in words_for(name))
    assert [word for word, times in words.items() if times > 1] == []
    assert set(SYNONYMS) <= set(SPELLINGS)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Sad", "sad"),
        ("SADNESS", "sad"),
        (" happiness", "happy"),
        ("joy", "happy"),
        ("Anger", "angry"),
        ("fear", "fearful"),
        ("disgusted", "disgust"),
        ("pleasant_surprise", "surprised"),
        ("furious", None),
        ("", None),
    ],
)
def test_spellings(word, name):
    assert emotion_named(word) == name


def test_a_task_keeps_its_own_spelling():
    assert chosen_emotion("Sad", ["joy", "sadness"]) == "sadness"
    assert chosen_emotion("happy", ["joy", "sadness"]) == "joy"
    assert chosen_emotion("joy", ["happy", "joy"]) == "joy"
    assert chosen_emotion("Bittersweet", ["bitter-sweet", "bittersweet"]) == "bittersweet"
    assert chosen_emotion("furious", ["angry"]) is None


def test_what_a_label_may_have_meant():
    assert suggested_emotion("cheerful", ["sad", "happy"]) == "happy"
    assert suggested_emotion("angy", ["sad", "angry"]) == "angry"
    assert suggested_emotion("unhappy", ["happy"]) is None
