from dataclasses import replace

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.batch import SpeechDataset, collate
from empathy_lightning.corpora import read_manifest
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.language_model import pack
from empathy_lightning.prompts import response_ids
from empathy_lightning.utterance import EMOTIONS


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def test_loss_of_a_batch_is_the_mean_over_the_tokens_of_each_alone(model, corpus, batch):
    together = model(batch)
    losses, counts = [], []
    for utterance in read_manifest(corpus)[:4]:
        alone = model(collate([(read(utterance.path), utterance)], EMOTIONS))
        losses.append(alone.response_loss)
        counts.append(len(response_ids(model.language_model.tokenizer, utterance.response)))
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(together.response_loss, expected, rtol=1e-4, atol=1e-5)


def test_replies_do_not_depend_on_the_batch(model, batch):
    encoded, emotion = model.hear(batch)
    speech, mask = model.speech_adapter(encoded.frames, encoded.mask)
    prompts = model.prompt_rows([row[valid] for row, valid in zip(speech, mask, strict=True)], emotion.embedding)
    together = model.respond(prompts, max_new_tokens=10)
    assert together == [model.respond([prompt], max_new_tokens=10)[0] for prompt in prompts]


def test_prompt_of_words_is_the_embedded_text(model):
    (row,) = model.prompt_rows(["hello"], ["sad"])
    text = "<|im_start|>user\nhello(with a sad emotional tone).<|im_end|>\n<|im_start|>assistant\n"
    expected = model.language_model.embed(model.language_model.tokenizer(text).input_ids)
    assert torch.equal(row, expected)


def test_state_t_is_the_one_from_which_token_t_is_chosen(model):
    prompts = model.prompt_rows(["hello", "a longer one"], ["sad", "happy"])
    replies = model.respond(prompts, max_new_tokens=6)
    for states, reply in zip(model.reply_states(prompts, replies), replies, strict=True):
        assert model.language_model.model.lm_head(states).argmax(-1).tolist() == reply


def test_gradients_reach_adapter_and_nuance_but_nothing_frozen(model, batch):
    model.train()
    model(batch).response_loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[0] for name in trained} == {"speech_adapter", "emotion_nuance"}


def test_an_empty_emotion_slot_is_an_error(model):
    with pytest.raises(ValueError, match="slot"):
        model.prompt_rows(["hello"], None)


def test_parts_that_need_each_other_are_asked_for(model):
    with pytest.raises(ValueError, match="each other"):
        EmpatheticLM(model.speech_encoder, speech_adapter=model.speech_adapter)
    with pytest.raises(ValueError, match="give"):
        EmpatheticLM(model.speech_encoder)


def test_without_responses_only_the_emotion_is_estimated(model, batch):
    batch.responses = [None] * len(batch)
    output = model(batch)
    assert output.response_loss is None and output.emotion.logits.shape == (4, 5)


def test_left_padding_is_all_that_a_batch_adds(model):
    prompts = model.prompt_rows(["a", "abcdef"], ["sad", "sad"])
    _, mask = pack(prompts, left=True)
    assert mask.sum(1).tolist() == [len(p) for p in prompts]


def test_the_emotion_comes_from_the_other_recording_and_the_words_do_not(model, corpus):
    spoken, voice, plain = read_manifest(corpus)[:3]

    def _alone(utterance):
        return model.hear(collate(SpeechDataset([utterance]).__getitems__([0]), EMOTIONS))

    paired = replace(spoken, emotion_path=voice.path)
    encoded, emotion = model.hear(collate(SpeechDataset([paired, plain]).__getitems__([0, 1]), EMOTIONS))
    torch.testing.assert_close(emotion.embedding[0], _alone(voice)[1].embedding[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(emotion.embedding[1], _alone(plain)[1].embedding[0], rtol=1e-4, atol=1e-5)
    assert (emotion.embedding[0] - _alone(spoken)[1].embedding[0]).abs().max() > 1e-3
    said = encoded.frames[0][encoded.mask[0]]
    torch.testing.assert_close(said, _alone(spoken)[0].frames[0], rtol=1e-4, atol=1e-5)


def test_the_end_of_a_cut_response_is_not_trained(model, batch):
    language_model = model.language_model
    prompts = model.prompt_rows(batch.transcripts, batch.emotions)
    total, count = 0.0, 0
    for index, (prompt, response) in enumerate(zip(prompts, batch.responses, strict=True)):
        ids = language_model.tokenizer(response, add_special_tokens=False).input_ids
        ids += [] if index == 1 else [language_model.tokenizer.eos_token_id]
        hidden = language_model(
            torch.cat([prompt, language_model.embed(ids)])[None], torch.ones(1, len(prompt) + len(ids))
        )
        logits = language_model.model.lm_head(hidden[0, len(prompt) - 1 : -1])
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
        count += len(ids)
    cut = [False, True, False, False]
    torch.testing.assert_close(model.response_loss(prompts, batch.responses, cut), total / count, rtol=1e-4, atol=1e-5)
    whole = model(batch).response_loss
    batch.cut = cut
    assert model(batch).response_loss != whole
