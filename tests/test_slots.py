from collections import Counter

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.batch import collate
from empathy_lightning.checkpoints import load, save
from empathy_lightning.corpora import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.slots import emotion_content
from empathy_lightning.utterance import EMOTIONS
from tests.modules.families import tiny
from tests.tiny import filled, spoken, whole


def loss(model, batch, speech_slot, emotion_slot):
    model.responder.speech_slot, model.responder.emotion_slot = speech_slot, emotion_slot
    return model(batch).response_loss


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def test_known_words_give_the_loss_of_the_prompt_in_words(model, batch):
    rows = filled(model, batch.transcripts, batch.emotions)
    expected = model.responder.loss(rows, batch.responses)
    torch.testing.assert_close(loss(model, batch, "transcript", "label"), expected)
    assert loss(model, batch, "speech", "label") != expected


def test_each_slot_alone(model, batch):
    encoded, emotion = model.hear(batch)
    speech, mask = model.listener.speech_adapter(encoded.frames, encoded.mask)
    said = [row[valid] for row, valid in zip(speech, mask, strict=True)]
    for slots, rows in {
        ("speech", "embedding"): (said, emotion.embedding),
        ("speech", "label"): (said, batch.emotions),
        ("transcript", "embedding"): (batch.transcripts, emotion.embedding),
    }.items():
        expected = model.responder.loss(filled(model, *rows), batch.responses)
        torch.testing.assert_close(loss(model, batch, *slots), expected)


def test_random_labels_are_uniform_and_stay_with_their_utterance():
    ids = [str(i) for i in range(2_000)]
    labels = emotion_content("random label", None, [""] * 2_000, ids, EMOTIONS)
    assert all(350 < Counter(labels)[name] < 450 for name in EMOTIONS)
    assert emotion_content("random label", None, [""], ids[7:8], EMOTIONS) == labels[7:8]
    assert labels != emotion_content("random label", None, [""] * 2_000, ids, EMOTIONS, seed=1)


def test_random_labels_come_from_the_categories_of_the_task(corpus):
    utterances = read_manifest(corpus)
    batch = collate([(torch.randn(400), u) for u in utterances], ("calm", "sad"))
    drawn = emotion_content("random label", None, batch.emotions, batch.ids, batch.categories)
    assert set(drawn) == {"calm", "sad"}


@pytest.mark.parametrize(("field", "slots"), [("transcripts", ("transcript", "label")), ("emotions", (None, "label"))])
def test_what_is_not_known_cannot_fill_a_slot(model, batch, field, slots):
    getattr(batch, field)[2] = ""
    with pytest.raises(ValueError, match=f"utterance {batch.ids[2]} has no"):
        loss(model, batch, *slots)


def test_the_slots_are_part_of_a_checkpoint(model, batch, tmp_path):
    model.responder.speech_slot, model.responder.emotion_slot = "transcript", "random label"
    save(tmp_path, spoken(model, list(EMOTIONS)))
    again = load(tmp_path)
    assert (again.responder.speech_slot, again.responder.emotion_slot) == ("transcript", "random label")
    torch.testing.assert_close(again(batch).response_loss, model(batch).response_loss)


def test_what_is_no_content_is_refused(model):
    with pytest.raises(ValueError, match="is none of"):
        whole(model.listener.speech_encoder, emotion_nuance=model.listener.emotion_nuance, emotion_slot="true label")


def test_positions_are_not_told_to_a_model_that_takes_none(model):
    tokenizer = model.responder.language_model.tokenizer
    deaf = LanguageModel(tiny("mpt", vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(InputError, match="reference_compat tells the language model positions"):
        whole(model.listener.speech_encoder, model.listener.speech_adapter, deaf, reference_compat=True)
