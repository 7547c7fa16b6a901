from itertools import product

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from empathy_lightning.data.batch import batch_of
from empathy_lightning.errors import InputError
from empathy_lightning.listener import Heard
from empathy_lightning.losses import AlignmentLoss
from empathy_lightning.losses.alignment import first_tokens
from empathy_lightning.metrics import HeardWordErrorRate
from empathy_lightning.modules.posterior_adapter import HeardTokens, PosteriorAdapter, _merged
from empathy_lightning.modules.speech_encoder import length_mask
from empathy_lightning.outputs import EmpatheticOutput
from empathy_lightning.tasks import SpeechAdapterTask
from tests.conftest import byte_tokenizer
from tests.tiny import whole


def group_by_group(embeddings, log_probabilities):
    """Neighbours with the same likeliest token averaged, those of none left out."""
    found, last = [], None
    for row, scores in zip(embeddings, log_probabilities, strict=True):
        token = int(scores.argmax())
        if token != len(scores) - 1:
            if token != last:
                found.append([])
            found[-1].append(row)
        last = token
    return torch.stack([torch.stack(rows).mean(0) for rows in found])


def test_neighbours_with_one_token_are_averaged_and_blanks_left_out():
    scores = torch.randn(6, 20, 4).log_softmax(-1)
    mask = length_mask(torch.tensor([20, 13, 20, 7, 20, 1]), 20)
    embeddings = torch.randn(6, 20, 5)
    scores[5, 0, 0] = 9.0
    merged, kept = _merged(embeddings, HeardTokens(scores, mask))
    for row in range(6):
        valid = mask[row]
        torch.testing.assert_close(merged[row, kept[row]], group_by_group(embeddings[row, valid], scores[row, valid]))


def test_silence_is_heard_as_its_likeliest_group():
    scores = torch.tensor([[[0.1, 0.0, 0.9], [0.4, 0.1, 0.5], [0.9, 0.1, 0.0]]]).log()
    embeddings = torch.arange(3.0)[None, :, None]
    merged, kept = _merged(embeddings, HeardTokens(scores, torch.tensor([[True, True, False]])))
    assert kept.tolist() == [[True]]
    assert merged.tolist() == [[[1.0]]]


def test_a_result_does_not_depend_on_the_batch(language_model):
    adapter = PosteriorAdapter(6, 32, num_tokens=200, hidden_size=16, layers=1, num_heads=2, downsampling=2).eval()
    adapter.attach(language_model)
    frames, lengths = torch.randn(3, 21, 6), torch.tensor([21, 8, 15])
    with torch.no_grad():
        together, kept, _ = adapter(frames, length_mask(lengths, 21))
        for row, length in enumerate(lengths.tolist()):
            alone, own, _ = adapter(frames[row : row + 1, :length], length_mask(lengths[row : row + 1], length))
            torch.testing.assert_close(together[row, kept[row]], alone[0, own[0]], rtol=1e-4, atol=1e-5)


def test_a_sure_adapter_gives_the_transcripts_own_embeddings(language_model):
    adapter = PosteriorAdapter(8, 32, num_tokens=250, hidden_size=16, layers=0, downsampling=1).eval()
    adapter.attach(language_model)
    ids = [40, 41, 41, 7]
    heard = [40, 40, 250, 41, 250, 41, 7, 7]
    scores = torch.full((1, 8, 251), -50.0)
    scores[0, torch.arange(8), torch.tensor(heard)] = 0.0
    adapter.hear = lambda frames, mask: HeardTokens(scores.log_softmax(-1), mask)
    embeddings, kept, _ = adapter(torch.zeros(1, 8, 8), torch.ones(1, 8, dtype=torch.bool))
    torch.testing.assert_close(embeddings[0, kept[0]], language_model.embed(ids))


def test_an_adapter_without_the_models_words_and_one_that_does_not_fit_them_are_refused(language_model, model):
    with pytest.raises(InputError, match="give it a responder"):
        PosteriorAdapter(8, 32, 10)(torch.zeros(1, 4, 8), torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="do not fit the language model's 259 embeddings of width 32"):
        whole(model.listener.speech_encoder, PosteriorAdapter(32, 32, 260), language_model)
    assert not [name for name in PosteriorAdapter(8, 32, 10).state_dict() if "word" in name]


def every_path(scores, ids):
    """The probability of all ways to write the tokens over the groups, one by one."""
    blank, total = scores.shape[1] - 1, 0.0
    for path in product(range(blank + 1), repeat=len(scores)):
        merged = [t for i, t in enumerate(path) if t != blank and (i == 0 or path[i - 1] != t)]
        if merged == ids:
            total += float(torch.stack([scores[i, t] for i, t in enumerate(path)]).sum().exp())
    return total


def heard_output(scores, mask):
    return EmpatheticOutput(None, None, None, Heard([], None, None, [HeardTokens(scores, mask)]))


def letters(backbones, monkeypatch, ids):
    """A loss whose texts are written in tokens of three."""
    loss = AlignmentLoss(str(backbones / "language_model"))
    monkeypatch.setattr(loss, "tokens", lambda text, count: [ids[letter] for letter in text])
    return loss


def test_the_loss_sums_over_every_alignment(backbones, monkeypatch):
    loss = letters(backbones, monkeypatch, {"a": 0, "b": 1})
    scores = torch.randn(4, 5, 3).log_softmax(-1)
    batch = batch_of([torch.zeros(10)] * 4)
    # The third has no transcript, and the fourth has more tokens than groups.
    batch.transcripts = ["ab", "aa", "", "abab"]
    found = loss(heard_output(scores, length_mask(torch.tensor([5, 4, 5, 3]), 5)), batch)
    expected = [-torch.tensor(every_path(scores[0], [0, 1])).log() / 2]
    expected += [-torch.tensor(every_path(scores[1, :4], [0, 0])).log() / 2]
    torch.testing.assert_close(found, sum(expected) / 3)


def test_an_adapter_that_hears_no_tokens_has_no_such_loss(backbones):
    loss = AlignmentLoss(str(backbones / "language_model"))
    with pytest.raises(InputError, match="needs a speech_adapter that hears tokens"):
        loss(EmpatheticOutput(None, None, None, Heard([], None)), batch_of([torch.zeros(10)]))


def merging_tokenizer():
    """A byte-level tokenizer with merges, in the order of its ids."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("c", "a"), ("ca", "t")]
    for first, second in merges:
        vocabulary[first + second] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_fewer_tokens_write_the_same_text_in_more_pieces():
    tokenizer = merging_tokenizer()
    text = "the cat the hat"
    whole_ids = first_tokens(tokenizer, 261).encode(text).ids
    assert whole_ids == tokenizer(text).input_ids
    pieces = first_tokens(tokenizer, 258).encode(text)
    assert max(pieces.ids) < 258
    assert len(pieces.ids) > len(whole_ids)
    assert tokenizer.decode(pieces.ids) == text
    assert pieces.tokens[:2] == ["the", "Ġ"]


def test_a_vocabulary_too_small_for_the_alphabet_is_refused(backbones):
    loss = AlignmentLoss(str(backbones / "language_model"))
    count = len(byte_tokenizer())
    assert loss.tokens("zebra", count) == byte_tokenizer()("zebra").input_ids
    with pytest.raises(InputError, match="raise num_tokens"):
        loss.tokens("zebra", 20)


def test_the_words_that_were_heard_are_counted_over_the_whole_split(backbones):
    tokenizer = byte_tokenizer()
    metric = HeardWordErrorRate(str(backbones / "language_model"))
    blank = len(tokenizer)
    for texts, said in ((["One red cat.", "who is it"], ["One red cat.", "Who was it?"]), (["a"], ["a b c d e"])):
        paths = []
        for text in texts:
            ids = tokenizer(text).input_ids
            # Each token twice, and a blank between neighbours.
            paths.append([step for token in ids for step in (token, token, blank)])
        width = max(map(len, paths))
        scores = torch.full((len(texts), width, blank + 1), -9.0)
        for row, path in enumerate(paths):
            scores[row, torch.arange(len(path)), torch.tensor(path)] = 0.0
        batch = batch_of([torch.zeros(10)] * len(texts))
        batch.transcripts = said
        metric.update(heard_output(scores, length_mask(torch.tensor([len(path) for path in paths]), width)), batch)
    assert float(metric.compute()) == pytest.approx((0 + 1 + 4) / (3 + 3 + 5))


def words_heard(model, backbones, **weights):
    """The outcome of a batch in stage 1a, and how often the language model ran for it."""
    model = whole(
        model.listener.speech_encoder, PosteriorAdapter(32, 32, 259, 16, 1, 2), model.responder.language_model
    )
    task = SpeechAdapterTask(
        model,
        auxiliary_losses={"alignment": AlignmentLoss(str(backbones / "language_model"))},
        loss_weights=weights,
        metrics={"wer": HeardWordErrorRate(str(backbones / "language_model"))},
    )
    runs = []
    model.responder.language_model.model.register_forward_hook(lambda *_: runs.append(1))
    model.responder.language_model.decoder.register_forward_hook(lambda *_: runs.append(1))
    batch = batch_of([0.1 * torch.randn(16_000), 0.1 * torch.randn(12_000)])
    batch.transcripts, batch.responses = ["a cat", "hi"], ["Meow.", "Hello."]
    return task.output(batch), batch, len(runs), task


def test_the_language_model_rests_where_only_hearing_is_learnt(model, backbones):
    output, batch, runs, task = words_heard(model, backbones, response=0.0)
    assert runs == 0 and output.response_loss is None
    loss = task.auxiliary_losses["alignment"](output, batch)
    loss.backward()
    trained = [p for p in task.model.listener.speech_adapter.parameters() if p.grad is not None]
    assert loss.item() > 0 and len(trained) == len(list(task.model.listener.speech_adapter.parameters()))
    output, _, runs, _ = words_heard(model, backbones)
    assert runs > 0 and output.response_loss is not None


def test_the_response_loss_reaches_the_adapter_through_the_frozen_model(model, backbones):
    output, _, _, task = words_heard(model, backbones)
    output.response_loss.backward()
    assert float(task.model.listener.speech_adapter.head.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in task.model.responder.language_model.parameters())
