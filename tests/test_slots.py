from collections import Counter

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.errors import InputError
from empathy_lightning.listener import Heard
from empathy_lightning.slots import (
    HeardEmotion,
    HeardSpeech,
    PredictedLabel,
    RandomLabel,
    SlotFiller,
    Transcript,
    TrueLabel,
)
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.tiny import filled, spoken

NOTHING = Heard(None, None)


class Shouted(SlotFiller):
    """Always the same word, loud."""

    def __init__(self, mark="?"):
        self.mark = mark

    def __call__(self, batch, heard):
        return [f"SAD{self.mark}"] * len(batch)


def loss(model, batch, speech_slot, emotion_slot):
    model.responder.speech_slot, model.responder.emotion_slot = speech_slot, emotion_slot
    return model(batch).response_loss


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def test_known_words_give_the_loss_of_the_prompt_in_words(model, batch):
    rows = filled(model, batch.transcripts, batch.emotions)
    expected = model.responder.loss(rows, batch.responses)
    torch.testing.assert_close(loss(model, batch, Transcript(), TrueLabel()), expected)
    assert loss(model, batch, HeardSpeech(), TrueLabel()) != expected


def test_each_slot_alone(model, batch):
    encoded = model.listener.speech_encoder(batch.waveform, batch.lengths)
    speech, mask = model.listener.speech_adapter(encoded.frames, encoded.mask)
    said = [row[valid] for row, valid in zip(speech, mask, strict=True)]
    felt = model.listener.emotion_nuance(encoded.layers, encoded.mask).embedding
    for slots, rows in {
        (HeardSpeech(), HeardEmotion()): (said, felt),
        (HeardSpeech(), TrueLabel()): (said, batch.emotions),
        (Transcript(), HeardEmotion()): (batch.transcripts, felt),
    }.items():
        expected = model.responder.loss(filled(model, *rows), batch.responses)
        torch.testing.assert_close(loss(model, batch, *slots), expected)


def test_random_labels_are_uniform_and_stay_with_their_utterance():
    utterances = [Utterance(id=str(number), corpus="c", path="p.wav") for number in range(2_000)]
    batch = collate([(torch.zeros(1), u) for u in utterances], EMOTIONS)
    labels = RandomLabel()(batch, NOTHING)
    assert all(350 < Counter(labels)[name] < 450 for name in EMOTIONS)
    alone = collate([(torch.zeros(1), utterances[7])], EMOTIONS)
    assert RandomLabel()(alone, NOTHING) == labels[7:8]
    assert labels != RandomLabel(seed=1)(batch, NOTHING)


def test_random_labels_come_from_the_categories_of_the_task(corpus):
    utterances = read_manifest(corpus)
    batch = collate([(torch.randn(400), u) for u in utterances], ("calm", "sad"))
    assert set(RandomLabel()(batch, NOTHING)) == {"calm", "sad"}


@pytest.mark.parametrize(
    ("field", "slots"), [("transcripts", (Transcript(), TrueLabel())), ("emotions", (HeardSpeech(), TrueLabel()))]
)
def test_what_is_not_known_cannot_fill_a_slot(model, batch, field, slots):
    getattr(batch, field)[2] = ""
    with pytest.raises(ValueError, match=f"utterance {batch.ids[2]} has no"):
        loss(model, batch, *slots)


def test_a_predicted_label_is_the_classifier_s_word(model, batch):
    heard = model.listener(batch)
    words = [EMOTIONS[index] for index in heard.emotion.logits.argmax(1).tolist()]
    assert PredictedLabel()(batch, heard) == words
    expected = model.responder.loss(filled(model, heard.said, words), batch.responses)
    torch.testing.assert_close(loss(model, batch, HeardSpeech(), PredictedLabel()), expected)
    heard.emotion.logits.fill_(torch.nan)
    with pytest.raises(InputError, match="no classifier was trained"):
        PredictedLabel()(batch, heard)


def test_the_slots_are_part_of_a_checkpoint(model, batch, tmp_path):
    model.responder.speech_slot, model.responder.emotion_slot = Transcript(), RandomLabel(seed=3)
    save(tmp_path, spoken(model, list(EMOTIONS)))
    again = load(tmp_path)
    assert type(again.responder.speech_slot) is Transcript
    assert type(again.responder.emotion_slot) is RandomLabel and again.responder.emotion_slot.seed == 3
    torch.testing.assert_close(again(batch).response_loss, model(batch).response_loss)


def test_a_slot_is_filled_by_a_class_of_one_s_own(model, batch, tmp_path):
    model.responder.emotion_slot = Shouted(mark="!")
    expected = model.responder.loss(filled(model, model.listener(batch).said, ["SAD!"] * 4), batch.responses)
    torch.testing.assert_close(model(batch).response_loss, expected)
    save(tmp_path, spoken(model, list(EMOTIONS)))
    with pytest.raises(InputError, match=r"code from elsewhere.*--trust tests"):
        load(tmp_path)
    torch.testing.assert_close(load(tmp_path, trust=["tests"])(batch).response_loss, expected)
