from dataclasses import replace

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.modules.language_model import pack
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.prompts import SPEECH_ONLY, response_ids
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import filled, tokens_of, whole


@pytest.fixture
def batch(corpus):
    return collate([(read(u.path), u) for u in read_manifest(corpus)[:4]], EMOTIONS)


def test_loss_of_a_batch_is_the_mean_over_the_tokens_of_each_alone(model, corpus, batch):
    together = model(batch)
    losses, counts = [], []
    for utterance in read_manifest(corpus)[:4]:
        alone = model(collate([(read(utterance.path), utterance)], EMOTIONS))
        losses.append(alone.response_loss)
        counts.append(len(response_ids(model.responder.language_model.tokenizer, utterance.response)))
    expected = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(together.response_loss, expected, rtol=1e-4, atol=1e-5)


def test_replies_do_not_depend_on_the_batch(model, batch):
    prompts = model.responder.prompts(batch, model.listener(batch))
    together = tokens_of(model, prompts, max_new_tokens=10)
    assert together == [tokens_of(model, [prompt], max_new_tokens=10)[0] for prompt in prompts]


def test_prompt_of_words_is_the_embedded_text(model):
    (row,) = filled(model, ["hello"], ["sad"])
    text = "<|im_start|>user\nhello(with a sad emotional tone).<|im_end|>\n<|im_start|>assistant\n"
    expected = model.responder.language_model.embed(model.responder.language_model.tokenizer(text).input_ids)
    assert torch.equal(row.embeddings, expected)


def test_state_t_is_the_one_from_which_token_t_is_chosen(model):
    prompts = filled(model, ["hello", "a longer one"], ["sad", "happy"])
    replies = tokens_of(model, prompts, max_new_tokens=6)
    for states, reply in zip(model.responder.states(prompts, replies), replies, strict=True):
        assert model.responder.language_model.model.lm_head(states).argmax(-1).tolist() == reply


def test_gradients_reach_adapter_and_nuance_but_nothing_frozen(model, batch):
    model.train()
    model(batch).response_loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name.split(".")[1] for name in trained} == {"speech_adapter", "emotion_nuance"}


def test_an_empty_emotion_slot_is_an_error(model):
    with pytest.raises(ValueError, match="slot"):
        filled(model, ["hello"], None)


def test_parts_that_need_each_other_are_asked_for(model):
    with pytest.raises(ValueError, match="hears words for a responder"):
        parts = (model.listener.speech_encoder, model.listener.speech_adapter)
        whole(*parts, emotion_nuance=model.listener.emotion_nuance)
    with pytest.raises(ValueError, match="give"):
        whole(model.listener.speech_encoder)


def test_without_responses_only_the_emotion_is_estimated(model, batch):
    batch.responses = [None] * len(batch)
    output = model(batch)
    assert output.response_loss is None and output.emotion.logits.shape == (4, 5)


def test_left_padding_is_all_that_a_batch_adds(model):
    prompts = filled(model, ["a", "abcdef"], ["sad", "sad"])
    _, mask = pack([prompt.embeddings for prompt in prompts], left=True)
    assert mask.sum(1).tolist() == [len(p) for p in prompts]


def reference_loss(model, batch):
    """FreezeEmpath's loss in the plainest way: 30 s each, all layers stacked, logits of all positions."""
    heard, extractor, adapter = (
        model.listener.speech_encoder(batch.waveform, batch.lengths),
        model.listener.emotion_nuance.extractor,
        (model.listener.speech_adapter),
    )
    stack = torch.stack(heard.layers, 1)
    gate = extractor.gate_fc2(torch.relu(extractor.gate_fc1(stack.mean(2)))).softmax(1)
    mixed = extractor.layernorm((stack * gate[..., None]).sum(1))
    query = extractor.attn_pool.latent_queries.expand(len(mixed), 1, -1)
    pooled = extractor.attn_pool.multihead_attn(query, mixed, mixed)[0]
    emotion = extractor.linear2(torch.relu(extractor.linear1(pooled)))
    speech = adapter.linear2(torch.relu(adapter.linear1(heard.frames.reshape(len(batch), 300, -1))))
    total, count = 0, 0
    for index, response in enumerate(batch.responses):
        language_model = model.responder.language_model
        ids = torch.tensor(response_ids(language_model.tokenizer, response))
        slots = {"speech": speech[index], "emotion": emotion[index]}
        pieces = [slots[s] if isinstance(s, str) else language_model.embed(s) for s in model.responder.segments()]
        row = torch.cat([*pieces, language_model.embed(ids)])
        logits = language_model.model(inputs_embeds=row[None]).logits[0, -len(ids) - 1 : -1]
        total = total + torch.nn.functional.cross_entropy(logits, ids, reduction="sum")
        count += len(ids)
    return total / count


@pytest.mark.parametrize("stage", [1, 2])
def test_padded_to_30_seconds_loss_and_gradients_are_the_reference_s(stage, model, batch):
    model.responder.system = "You listen."
    model.listener.speech_encoder.pad_to_30s, model.listener.speech_adapter.drop_incomplete = True, True
    if stage == 2:
        freeze(model.listener.speech_adapter)
    trained = model.listener.speech_adapter if stage == 1 else model.listener.emotion_nuance.extractor
    loss, expected = model(batch).response_loss, reference_loss(model, batch)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    gradients, expected_gradients = (torch.autograd.grad(x, list(trained.parameters())) for x in (loss, expected))
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_takes_no_way_twice(stage, model, batch):
    if stage == 1:
        model.listener.emotion_nuance, model.responder.prompt = None, SPEECH_ONLY
    else:
        freeze(model.listener.speech_adapter)
    rows = {"encoder": [], "block": [], "head": []}
    decoder = model.responder.language_model.model
    model.listener.speech_encoder.encoder.conv1.register_forward_hook(
        lambda _m, i, _o: rows["encoder"].append(len(i[0]))
    )
    decoder.model.layers[-1].register_forward_hook(lambda _m, i, _o: rows["block"].append(tuple(i[0].shape[:2])))
    decoder.lm_head.register_forward_hook(lambda _m, i, _o: rows["head"].append(i[0].shape[:-1].numel()))
    model(batch).response_loss.backward()
    targets = sum(len(response_ids(model.responder.language_model.tokenizer, r)) for r in batch.responses)
    prefix = len(model.responder.segments()[0])
    assert prefix > 0 and rows["encoder"] == [4] and sum(rows["head"]) == targets
    assert rows["block"][0] == (1, prefix) and all(shape[0] == 4 for shape in rows["block"][1:])
    assert len(rows["block"]) == stage + 1


def test_before_the_emotion_slot_nothing_is_computed_backwards(model, batch):
    freeze(model.listener.speech_adapter)
    parameters = list(model.listener.emotion_nuance.extractor.parameters())
    forward, counts = model.responder.language_model.forward, []

    def _whole(rows, mask, prefix, still):
        counts.extend(still)
        return forward(rows, mask, prefix)

    plain = model(batch).response_loss
    model.responder.language_model.forward = _whole
    whole = model(batch).response_loss
    assert min(counts) > len(model.responder.segments()[0]) + len(model.responder.segments()[2])
    torch.testing.assert_close(plain, whole, rtol=1e-5, atol=1e-6)
    gradients, expected = (torch.autograd.grad(loss, parameters) for loss in (plain, whole))
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-6)


def test_the_emotion_comes_from_the_other_recording_and_the_words_do_not(model, corpus):
    spoken, voice, plain = read_manifest(corpus)[:3]

    def _alone(utterance):
        return model.listener(collate(SpeechDataset([utterance]).__getitems__([0]), EMOTIONS))

    paired = replace(spoken, emotion_path=voice.path)
    heard = model.listener(collate(SpeechDataset([paired, plain]).__getitems__([0, 1]), EMOTIONS))
    torch.testing.assert_close(heard.emotion.embedding[0], _alone(voice).emotion.embedding[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(heard.emotion.embedding[1], _alone(plain).emotion.embedding[0], rtol=1e-4, atol=1e-5)
    assert (heard.emotion.embedding[0] - _alone(spoken).emotion.embedding[0]).abs().max() > 1e-3
    torch.testing.assert_close(heard.said[0], _alone(spoken).said[0], rtol=1e-4, atol=1e-5)


def test_the_end_of_a_cut_response_is_not_trained(model, batch):
    language_model = model.responder.language_model
    prompts = filled(model, batch.transcripts, batch.emotions)
    total, count = 0.0, 0
    for index, (prompt, response) in enumerate(zip(prompts, batch.responses, strict=True)):
        ids = language_model.tokenizer(response, add_special_tokens=False).input_ids
        ids += [] if index == 1 else [language_model.tokenizer.eos_token_id]
        hidden = language_model(
            torch.cat([prompt.embeddings, language_model.embed(ids)])[None], torch.ones(1, len(prompt) + len(ids))
        )
        logits = language_model.model.lm_head(hidden[0, len(prompt) - 1 : -1])
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
        count += len(ids)
    cut = [False, True, False, False]
    torch.testing.assert_close(model.responder.loss(prompts, batch.responses, cut), total / count, rtol=1e-4, atol=1e-5)
    whole = model(batch).response_loss
    batch.cut = cut
    assert model(batch).response_loss != whole
