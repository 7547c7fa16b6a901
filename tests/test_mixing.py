"""Utterances with prompts of their own: in one batch with others, they are trained as they would be alone."""

from dataclasses import replace

import pytest
import torch

from empathy_lightning.audio import read
from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.losses import ResponseDistillationLoss
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.partial_lora import PartialLora
from empathy_lightning.modules.speech_encoder import freeze
from empathy_lightning.prompts import Prompt, response_ids
from empathy_lightning.slots import HeardSpeech, Transcript, TrueLabel
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import filled

QUESTION = Prompt("Name the tone: {speech}", "You are a judge.")
SYSTEM = "You are an empathetic spoken chatbot."


@pytest.fixture
def model(model):
    model.responder.system = SYSTEM
    # So loud that a word more or less before the speech is seen in the loss.
    for part in (
        model.listener.speech_adapter,
        model.listener.emotion_nuance.extractor,
        model.responder.language_model.model.model.layers,
    ):
        for parameter in part.parameters():
            parameter.data *= 4
    return model


def utterances(corpus):
    """Two to be answered, one of them with another voice, and two to be recognised, by questions of two lengths."""
    rows = read_manifest(corpus)[:5]
    asked = replace(rows[1], prompt=QUESTION.user, system=QUESTION.system, response=rows[1].emotion)
    longer = replace(rows[3], prompt="{speech} was said with {emotion}. " + "Which? " * 4, response=rows[3].emotion)
    return [rows[0], asked, replace(rows[2], emotion_path=rows[4].path), longer]


def batch_of(rows):
    heard = [(read(u.path), u) if u.emotion_path is None else (read(u.path), u, read(u.emotion_path)) for u in rows]
    return collate(heard, EMOTIONS)


def tokens(model, rows):
    return sum(len(response_ids(model.responder.language_model.tokenizer, u.response)) for u in rows)


def loss_and_gradients(model, batch, parameters):
    loss = model(batch).response_loss
    return loss, torch.autograd.grad(loss, parameters)


def parameters_of(model, stage):
    if stage == 1:
        return [*model.listener.speech_adapter.parameters(), *model.listener.emotion_nuance.extractor.parameters()]
    freeze(model.listener.speech_adapter)
    return list(model.listener.emotion_nuance.extractor.parameters())


def test_a_batch_knows_which_rows_bring_their_prompts(corpus):
    rows = utterances(corpus)
    batch = batch_of(rows)
    assert batch.prompts == [None, QUESTION, None, Prompt(rows[3].prompt)]
    assert batch_of([rows[0], rows[2]]).prompts == [] and batch.to("cpu").prompts == batch.prompts


def test_rows_read_their_own_prompts(model, corpus):
    rows = utterances(corpus)
    prompts = filled(model, [u.transcript for u in rows], [u.emotion for u in rows], batch_of(rows).prompts)
    tokenizer = model.responder.language_model.tokenizer
    for utterance, row in zip(rows, prompts, strict=True):
        own = Prompt(utterance.prompt, utterance.system) if utterance.prompt else Prompt(model.responder.prompt, SYSTEM)
        ids = own.text_ids(tokenizer, speech=utterance.transcript, emotion=utterance.emotion)
        assert torch.equal(row.embeddings, model.responder.language_model.embed(ids))
    user = "<|im_start|>user\nName the tone: "
    assert tokenizer.decode(prompts[1].prefix) == f"<|im_start|>system\n{QUESTION.system}<|im_end|>\n{user}"


@pytest.mark.parametrize("stage", [1, 2])
def test_a_mixed_batch_is_both_kinds_alone_weighed_by_their_tokens(stage, model, corpus):
    rows = utterances(corpus)
    parameters = parameters_of(model, stage)
    together, gradients = loss_and_gradients(model, batch_of(rows), parameters)
    kinds = [[u for u in rows if (u.prompt is None) == plain] for plain in (True, False)]
    counts = [tokens(model, kind) for kind in kinds]
    alone = [loss_and_gradients(model, batch_of(kind), parameters) for kind in kinds]
    weights = [count / sum(counts) for count in counts]
    torch.testing.assert_close(together, sum(w * loss for w, (loss, _) in zip(weights, alone, strict=True)))
    expected = [weights[0] * a + weights[1] * b for a, b in zip(alone[0][1], alone[1][1], strict=True)]
    torch.testing.assert_close(list(gradients), expected, rtol=1e-4, atol=1e-6)
    assert 0 < counts[1] < counts[0]
    unasked = batch_of(rows)
    unasked.prompts = []
    assert not torch.isclose(model(unasked).response_loss, together, rtol=1e-4)


@pytest.mark.parametrize("stage", [1, 2])
def test_the_short_ways_are_exact_where_prompts_differ(stage, model, corpus, monkeypatch):
    batch, parameters = batch_of(utterances(corpus)), parameters_of(model, stage)
    shapes, forward = [], LanguageModel.forward
    layer = model.responder.language_model.model.model.layers[0]
    handle = layer.register_forward_hook(lambda _m, inputs, _o: shapes.append(tuple(inputs[0].shape[:2])))
    short = loss_and_gradients(model, batch, parameters)
    handle.remove()
    # All begin with one token and differ then; up to the longest of the still parts nothing is kept.
    # The rows behind it are computed as one, without their padding.
    assert shapes[0] == (1, 1) and [shape[0] for shape in shapes[1:]] == [1, 1]
    monkeypatch.setattr(LanguageModel, "forward", lambda self, rows, mask, *_: forward(self, rows, mask))
    whole = loss_and_gradients(model, batch, parameters)
    torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-6)


def test_prompts_with_one_system_message_share_it(model, corpus):
    rows = [replace(u, system=SYSTEM) if u.prompt else u for u in utterances(corpus)[:2]]
    prompts = filled(model, [u.transcript for u in rows], [u.emotion for u in rows], batch_of(rows).prompts)
    text = model.responder.language_model.tokenizer.decode(model.responder.prefix(prompts))
    assert text == f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"


def test_what_is_expected_after_the_transcripts_is_expected_after_the_same_prompts(model, corpus):
    batch = batch_of(utterances(corpus))
    model.responder.speech_slot, model.responder.emotion_slot = Transcript(), TrueLabel()
    assert ResponseDistillationLoss()(model(batch), batch).abs() < 1e-6
    model.responder.speech_slot = HeardSpeech()
    assert ResponseDistillationLoss()(model(batch), batch) > 1e-4


@pytest.mark.parametrize("frozen_adapter", [False, True])
def test_partial_lora_takes_the_shared_prefix(frozen_adapter, model, corpus, monkeypatch):
    """Words before the speech are the frozen model's, in one row for all: the same loss and the same gradients."""
    lora = PartialLora.for_model(model.responder.language_model.model, rank=4)
    for name, parameter in lora.named_parameters():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(parameter, std=0.5)
    lora.attach(model.responder.language_model.model)
    model.responder.partial_lora = lora.eval()
    if frozen_adapter:
        freeze(model.listener.speech_adapter)
    trained = [p for p in [*lora.parameters(), *model.listener.speech_adapter.parameters()] if p.requires_grad]
    for rows in (utterances(corpus), [utterances(corpus)[0]], [utterances(corpus)[0], utterances(corpus)[2]]):
        batch, shapes = batch_of(rows), []
        layer = model.responder.language_model.model.model.layers[0]
        handle = layer.register_forward_hook(lambda _m, inputs, _o, s=shapes: s.append(tuple(inputs[0].shape[:2])))
        short = loss_and_gradients(model, batch, trained)
        handle.remove()
        shared = len(model.responder.segments()[0]) if len(rows) < 4 else 1
        assert shapes[0] == (1, shared) and len(shapes) == 2
        with monkeypatch.context() as patch:
            patch.setattr(model.responder, "prefix", lambda *_: [])
            whole = loss_and_gradients(model, batch, trained)
        torch.testing.assert_close(short, whole, rtol=1e-4, atol=1e-6)
    lora.scope = "global"
    assert model.responder.prefix(filled(model, ["a"], ["sad"])) == []
