import random

import pytest
import torch

from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.small_world import world
from empathy_lightning.small_world.espeak import Prosody, render
from empathy_lightning.small_world.voices import ACCENTS, VARIANTS, drawn_variant, variant_text, voice
from empathy_lightning.utterance import EMOTIONS


def test_splits_share_no_combination_and_no_voice():
    combinations = {s: {x.content_words for x in world.sentences(s)} for s in ("train", "validation", "test")}
    variants = {s: set(names) for s, names in VARIANTS.items()}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not combinations[first] & combinations[second]
        assert not variants[first] & variants[second]
    assert len({s.text for s in world.sentences("train")}) > 2_000
    assert len(ACCENTS) * len(variants["train"]) >= 24


def test_no_word_of_a_question_names_an_emotion():
    words = {word.strip(".").lower() for s in world.sentences("train") for word in s.text.split()}
    assert not words & ({*EMOTIONS, *world.EMOTION_WORDS.values()})


def test_content_words_are_found_again_in_questions_and_replies():
    generator = random.Random(0)
    for sentence in generator.sample(list(world.sentences("test")), 50):
        assert world.sentence_of(sentence.text).content_words == sentence.content_words
        for emotion in (None, *EMOTIONS):
            assert world.sentence_of(world.reply(sentence, emotion, generator)).content_words == sentence.content_words
    assert world.sentence_of("My sister met my brother at the park.") is None


def test_all_four_cues_tell_the_emotion_but_no_single_one_does():
    generator = random.Random(0)
    drawn = [(emotion, world.draw_prosody(emotion, generator)) for emotion in EMOTIONS * 400]
    assert sum(world.nearest_emotion(prosody) == emotion for emotion, prosody in drawn) / len(drawn) > 0.95
    for cue in ("rate", "pitch", "pitch_range", "volume"):
        centres = {emotion: getattr(world.MEAN_STYLES[emotion], cue) for emotion in EMOTIONS}
        right = sum(
            min(EMOTIONS, key=lambda e: abs(centres[e] - getattr(prosody, cue))) == emotion
            for emotion, prosody in drawn
        )
        assert right / len(drawn) < 0.9, cue


def test_ratings_follow_the_rendering():
    neutral, sad, angry, happy = (world.ratings(world.MEAN_STYLES[e]) for e in ("neutral", "sad", "angry", "happy"))
    assert sad["arousal"] < neutral["arousal"] < happy["arousal"]
    assert angry["valence"] < neutral["valence"] < happy["valence"]
    assert sad["dominance"] < angry["dominance"]
    generator = random.Random(1)
    for emotion in EMOTIONS * 40:
        drawn = world.ratings(world.draw_prosody(emotion, generator))
        assert all(0 <= value <= 1 for value in drawn.values())


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_reply_names_its_emotion_and_no_other(emotion):
    for reaction in world.REACTIONS[emotion]:
        assert [w for w in world.EMOTION_WORDS.values() if w in reaction] == [world.EMOTION_WORDS[emotion]]


def test_training_voices_are_mostly_new_ones_and_the_others_are_espeak_s_own():
    pytest.importorskip("espeakng_loader")
    generator = random.Random(0)
    drawn = [voice("train", generator) for _ in range(200)]
    assert 100 < sum("+drawn" in name for name in drawn) < 200
    assert not any("+drawn" in voice(split, generator) for split in ("validation", "test") for _ in range(50))


def test_drawn_voices_differ_in_pitch():
    pytest.importorskip("espeakng_loader")
    pitches = []
    for seed in range(12):
        waveform, rate = render("Good morning to all of you.", f"gmw/en+{drawn_variant(seed)}", Prosody())
        pitches.append(prosody(torch.from_numpy(waveform), 6, rate)["f0_mean"])
    assert max(pitches) > 1.5 * min(pitches)


def test_a_seed_always_draws_the_same_voice():
    first, second, other = (variant_text("x", random.Random(seed)) for seed in (1, 1, 2))
    assert first == second != other
