import math

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from empathy_lightning.data import read_manifest
from empathy_lightning.data.batch import SpeechDataset, collate
from empathy_lightning.errors import InputError
from empathy_lightning.losses import (
    CategoricalLoss,
    ConcordanceLoss,
    FocalLoss,
    InputDistillationLoss,
    QuantityLoss,
    RatingLoss,
    ResponseDistillationLoss,
    SoftLabelLoss,
    SupervisedContrastiveLoss,
)
from empathy_lightning.modules.cformer import CFormer
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.modules.families import tiny
from tests.tiny import filled, whole


class Labels:
    """The labels that a loss reads from a batch."""

    def __init__(self, emotion, arousal, valence, dominance, emotion_votes=None):
        self.emotion = torch.tensor(emotion)
        self.emotion_votes = torch.tensor(emotion_votes or [[0.0] * 4] * 3)
        self.arousal, self.valence, self.dominance = map(torch.tensor, (arousal, valence, dominance))


def output():
    logits = torch.randn(3, 4, requires_grad=True)
    ratings = torch.rand(3, 3, requires_grad=True)
    embedding = torch.randn(3, 2, requires_grad=True)
    return EmpatheticOutput(None, EmotionEstimate(embedding, logits, *ratings.unbind(1)))


NAN = math.nan
LABELLED = Labels([0, 3, -100], [0.1, 0.9, NAN], [NAN, 0.2, 0.3], [0.5, 0.4, 0.6])
VOTED = Labels(
    [0, 3, 3], [0.1, 0.9, NAN], [NAN, 0.2, 0.3], [0.5, 0.4, 0.6], [[0.5, 0.5, 0, 0], [0, 0, 0.2, 0.8], [0.0] * 4]
)
UNLABELLED = Labels([-100] * 3, [NAN] * 3, [NAN] * 3, [NAN] * 3)


def test_categorical_loss_is_the_formula():
    result = output()
    log = result.emotion.logits.log_softmax(1)
    expected = -(log[0, 0] + log[1, 3]) / 2
    torch.testing.assert_close(CategoricalLoss()(result, LABELLED), expected)
    smoothed = -(0.9 * (log[0, 0] + log[1, 3]) + 0.1 * (log[0].mean() + log[1].mean())) / 2
    torch.testing.assert_close(CategoricalLoss(label_smoothing=0.1)(result, LABELLED), smoothed)
    weighted = -(1 * log[0, 0] + 3 * log[1, 3]) / 4
    torch.testing.assert_close(CategoricalLoss(class_weights=[1.0, 1, 1, 3])(result, LABELLED), weighted)


def test_rating_loss_averages_over_what_is_rated():
    result = output()
    e = result.emotion
    pairs = [(e.arousal[0], 0.1), (e.arousal[1], 0.9), (e.valence[1], 0.2), (e.valence[2], 0.3)]
    pairs += [(e.dominance[i], t) for i, t in enumerate((0.5, 0.4, 0.6))]
    expected = sum((p - t) ** 2 for p, t in pairs) / 7
    torch.testing.assert_close(RatingLoss()(result, LABELLED), expected)


def test_concordance_loss_is_the_formula_of_lin():
    result = output()
    labels = Labels([0] * 3, [0.1, 0.9, 0.3], [0.2, 0.3, 0.9], [0.5, 0.4, 0.6])
    scores = []
    for name in ("arousal", "valence", "dominance"):
        x, y = getattr(result.emotion, name).detach().double().numpy(), getattr(labels, name).double().numpy()
        covariance = np.cov(x, y, bias=True)
        scores.append(2 * covariance[0, 1] / (np.trace(covariance) + (x.mean() - y.mean()) ** 2))
    assert ConcordanceLoss()(result, labels).item() == pytest.approx(1 - np.mean(scores), rel=1e-5)


def probabilities(result):
    logits = result.emotion.logits.detach().double().numpy()
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_focal_loss_is_equation_5(focus):
    result = output()
    p = probabilities(result)
    terms = [-((1 - p[i, c]) ** focus) * math.log(p[i, c]) for i, c in ((0, 0), (1, 3))]
    assert FocalLoss(focus)(result, LABELLED).item() == pytest.approx(sum(terms) / 2, rel=1e-5)
    weighted = FocalLoss(focus, class_weights=[0.25, 1, 1, 3])(result, LABELLED)
    assert weighted.item() == pytest.approx((0.25 * terms[0] + 3 * terms[1]) / 2, rel=1e-5)


def test_focal_loss_of_a_certain_prediction_has_a_finite_gradient():
    result = output()
    result.emotion.logits = torch.tensor([[200.0, 0, 0, 0]] * 3, requires_grad=True)
    FocalLoss(0.5)(result, Labels([0, 0, 0], [NAN] * 3, [NAN] * 3, [NAN] * 3)).backward()
    assert result.emotion.logits.grad.isfinite().all()


def test_soft_label_loss_is_the_cross_entropy_of_the_votes():
    result = output()
    # The second utterance has no votes; a quarter of the third's went to categories that the task does not have.
    votes = [[0.5, 0.25, 0.25, 0.0], [0.0] * 4, [0.0, 0.5, 0.0, 0.25]]
    p = np.log(probabilities(result))
    expected = -(0.5 * p[0, 0] + 0.25 * p[0, 1] + 0.25 * p[0, 2]) - (2 / 3 * p[2, 1] + 1 / 3 * p[2, 3])
    labels = Labels([0, 1, 2], [NAN] * 3, [NAN] * 3, [NAN] * 3, votes)
    assert SoftLabelLoss()(result, labels).item() == pytest.approx(expected / 2, rel=1e-5)


def test_contrastive_loss_is_equation_2():
    embedding = torch.randn(6, 3, requires_grad=True)
    result = EmpatheticOutput(None, EmotionEstimate(embedding, *[torch.zeros(6)] * 4))
    emotion = [2, 0, 2, -100, 2, 1]
    z = embedding.detach().double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in (0, 2, 4):  # those with a partner
        others = sum(math.exp(z[i] @ z[a] / 0.2) for a in range(6) if a != i)
        partners = [p for p in (0, 2, 4) if p != i]
        total -= sum(math.log(math.exp(z[i] @ z[p] / 0.2) / others) for p in partners) / len(partners)
    loss = SupervisedContrastiveLoss(0.2)(result, Labels(emotion, *[[NAN] * 6] * 3))
    assert loss.item() == pytest.approx(total / 3, rel=1e-5)
    alone = SupervisedContrastiveLoss()(result, Labels(list(range(6)), *[[NAN] * 6] * 3))
    assert alone.item() == 0
    alone.backward()


def spoken(responses):
    """Utterances of different lengths, with different transcripts."""
    texts, emotions = ("Hi.", "Where is it now?", "No"), ("sad", "angry", "happy")
    rows = [
        Utterance(str(i), "c", "p", transcript=text, emotion=emotion, response=response)
        for i, (text, emotion, response) in enumerate(zip(texts, emotions, responses, strict=True))
    ]
    waveforms = [0.1 * torch.randn(length) for length in (8_000, 5_000, 6_400)]
    return collate(list(zip(waveforms, rows, strict=True)), EMOTIONS)


@pytest.mark.parametrize("square_temperature", [True, False])
@pytest.mark.parametrize(("shifted", "family"), [(True, None), (False, None), (True, "gemma2"), (True, "granite")])
def test_distillation_is_the_divergence_of_bare_calls(model, square_temperature, shifted, family):
    """Each utterance alone through transformers' own model, full logits, in NumPy."""
    if family is not None:
        tokenizer = model.responder.language_model.tokenizer
        model.responder.language_model = LanguageModel(tiny(family, vocab_size=len(tokenizer)), tokenizer)
    with torch.no_grad():  # A model that never learned anything expects nearly the same everywhere.
        for weight in model.responder.language_model.parameters():
            weight.mul_(8 if weight.ndim == 2 else 1)
    batch = spoken(["ok", None, "what a day"])
    loss = ResponseDistillationLoss(2.0, square_temperature, shifted, chunk_size=4)(model(batch), batch)
    language_model, tokenizer = model.responder.language_model, model.responder.language_model.tokenizer
    heard = model.listener(batch)
    divergences = []
    for i in (0, 2):
        ids = [*tokenizer(batch.responses[i]).input_ids, tokenizer.eos_token_id]
        expected = []
        for said, felt in ((heard.said, heard.emotion_embedding), (batch.transcripts, batch.emotions)):
            (prompt,) = filled(model, said[i : i + 1], felt[i : i + 1])
            inputs = torch.cat([prompt.embeddings, language_model.embed(ids)])[None]
            logits = language_model.model(inputs_embeds=inputs).logits[0].detach().double().numpy() / 2
            log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            first = len(prompt) - 1 if shifted else len(prompt)
            expected.append(log[first : first + len(ids)])
        student, teacher = expected
        divergences += list((np.exp(teacher) * (teacher - student)).sum(1))
    assert np.mean(divergences) > 1e-3
    factor = 4 if square_temperature else 1
    assert loss.item() == pytest.approx(factor * np.mean(divergences), rel=1e-4)
    loss.backward()
    assert model.listener.speech_adapter.linear1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in language_model.parameters())


def test_distillation_is_zero_where_student_and_teacher_are_one(model):
    batch = spoken(["ok", "yes", "no"])
    output = model(batch)
    output.responses.hidden, output.responses.labels = output.responses.of_transcripts()
    assert ResponseDistillationLoss()(output, batch).item() == pytest.approx(0, abs=1e-6)


LOSSES = [
    CategoricalLoss(), FocalLoss(), SoftLabelLoss(), RatingLoss(), ConcordanceLoss(), SupervisedContrastiveLoss(),
    ResponseDistillationLoss(),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda x: type(x).__name__)
def test_no_labels_give_a_connected_zero(loss):
    result = output()
    value = loss(result, UNLABELLED)
    assert value.item() == 0
    value.backward()


def one_of_two(rank, folder):
    """A process of a distributed step; the second has no labels."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    nuance = nn.parallel.DistributedDataParallel(EmotionNuance(4, 4, 4, hidden_size=4, gate_size=2, num_heads=1))
    step(nuance, UNLABELLED if rank else VOTED).backward()
    torch.save([p.grad for p in nuance.parameters()], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def step(nuance, labels):
    torch.manual_seed(1)
    estimate = nuance([torch.randn(3, 5, 4)], torch.ones(3, 5, dtype=torch.bool))
    return sum(loss(EmpatheticOutput(None, estimate), labels) for loss in LOSSES)


def test_a_process_without_labels_does_not_stall_the_others(tmp_path):
    multiprocessing.start_processes(one_of_two, (str(tmp_path),), nprocs=2, start_method="fork")
    torch.manual_seed(0)
    nuance = EmotionNuance(4, 4, 4, hidden_size=4, gate_size=2, num_heads=1)
    step(nuance, VOTED).backward()
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(gradients, [p.grad / 2 for p in nuance.parameters()])


def test_a_model_without_nuance_is_told_so():
    with pytest.raises(ValueError, match="emotion_nuance"):
        CategoricalLoss()(EmpatheticOutput(None, None), LABELLED)


@pytest.mark.parametrize("loss", [RatingLoss(), ConcordanceLoss()])
def test_a_model_that_does_not_rate_is_named_instead_of_a_loss_of_nan(loss, model, corpus):
    model.listener.emotion_nuance = EmotionNuance(32, 32, hidden_size=48, gate_size=8, rate_dimensions=False)
    batch = collate(SpeechDataset(read_manifest(corpus)[:2]).__getitems__([0, 1]), EMOTIONS)
    with pytest.raises(InputError, match="rate_dimensions"):
        loss(model(batch), batch)


@pytest.fixture
def firing(model):
    """A model whose adapter gives one embedding per word piece, and utterances for it."""
    adapter = CFormer(32, 32, 16, 48, num_heads=2, layers_before=1, layers_after=1)
    firing = whole(model.listener.speech_encoder, adapter, model.responder.language_model)
    batch = spoken(["ok", "yes", "what a day"])
    return firing.train(), batch


def word_pieces(model, text):
    return model.responder.language_model.tokenizer(text).input_ids


def test_quantity_loss_is_the_formula(firing):
    model, batch = firing
    output = model(batch)
    adapter, terms = model.listener.speech_adapter, []
    for row, text in enumerate(batch.transcripts):
        length = batch.lengths[row : row + 1]
        encoded = model.listener.speech_encoder(batch.waveform[row : row + 1, : length[0]], length)
        hidden = encoded.frames[:, : int(encoded.mask.sum())]
        for layer in adapter.pre_cif_layers:
            hidden = layer(hidden, None)
        fired = sum(1 / (1 + math.exp(-x)) for x in hidden[0, :, -1].tolist())
        count = len(word_pieces(model, text))
        terms.append(abs(fired / count - 1))
        assert len(output.heard.said[row]) == count
    loss = QuantityLoss()(output, batch)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    loss.backward()
    assert adapter.pre_cif_layers[0].fc1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("square_temperature", [True, False])
def test_input_distillation_is_the_divergence_at_the_speech(firing, square_temperature):
    """Each utterance alone through transformers' own model, in NumPy; one is heard with its own number of tokens."""
    model, batch = firing
    known = [len(word_pieces(model, text)) for text in batch.transcripts]
    count, model.responder.token_counts = model.responder.token_counts, lambda texts: torch.tensor([*known[:2], 0])
    output = model(batch)
    model.responder.token_counts = count
    assert len(output.heard.said[2]) != known[2]
    loss = InputDistillationLoss(2.0, square_temperature, chunk_size=4)(output, batch)
    language_model, divergences = model.responder.language_model, []
    for row in (0, 1):
        expected = []
        for said in (output.heard.said, batch.transcripts):
            (prompt,) = filled(model, said[row : row + 1])
            logits = language_model.model(inputs_embeds=prompt.embeddings[None]).logits[0].detach().double().numpy() / 2
            expected.append(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
        (heard,) = filled(model, output.heard.said[row : row + 1])
        first = int(heard.speech.nonzero()[0])
        student, teacher = (log[first : first + known[row]] for log in expected)
        divergences += list((np.exp(teacher) * (teacher - student)).sum(1))
    assert len(divergences) == sum(known[:2]) and np.mean(divergences) > 1e-6
    factor = 4 if square_temperature else 1
    assert loss.item() == pytest.approx(factor * np.mean(divergences), rel=1e-3)
    loss.backward()
    assert model.listener.speech_adapter.token_embed_proj.weight.grad.abs().sum() > 0


def test_in_use_the_adapter_fires_as_often_as_it_hears(firing):
    model, batch = firing
    output = model.eval()(batch)
    (fired,) = output.heard.fired
    for said, total in zip(output.heard.said, fired.total, strict=True):
        assert len(said) == max(1, round(float(total)))
    assert fired.expected.tolist() == [len(word_pieces(model, text)) for text in batch.transcripts]
    assert QuantityLoss()(output, batch).item() > 0


def test_the_losses_of_firing_are_zero_without_words_and_refused_where_nothing_fires(firing, model):
    unfired, batch = firing
    batch.transcripts = [""] * 3
    assert QuantityLoss()(unfired(batch), batch).item() == 0
    batch.responses = [None] * 3
    output = unfired(batch)
    assert QuantityLoss()(output, batch).item() == 0 and InputDistillationLoss()(output, batch).item() == 0
    batch = spoken(["ok", "yes", "no"])
    with pytest.raises(InputError, match="needs a speech_adapter that fires"):
        QuantityLoss()(model(batch), batch)
