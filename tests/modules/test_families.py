"""Losses, replies and batches are those of the model alone, for every family of causal language models."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from empathy_lightning.modules.gradient_checkpointing import checkpoint_blocks
from empathy_lightning.modules.language_model import IGNORE, LanguageModel, pack
from tests.modules.families import FAMILIES, NOT_BUILT, REFUSED, tiny


class Tokenizer:
    """What the language model asks of one, without a vocabulary."""

    eos_token_id, pad_token_id, chat_template = 2, 0, None


TOKENIZER = Tokenizer()

SUPPORTED = [family for family in FAMILIES if family not in REFUSED and family not in NOT_BUILT]
IDS = [5, 6, 7, 8, 9, 3, 4]
ROWS = [IDS, [5, 6, 3, 7, 4], [5, 6, 8, 3, 4, 9]]


ALIBI = {"alibi": True}


@pytest.fixture(scope="module", params=[*SUPPORTED, "falcon with alibi"])
def family(request):
    name, *alibi = request.param.split(" with ")
    return LanguageModel(tiny(name, **(ALIBI if alibi else {})), TOKENIZER)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in REFUSED])
def test_what_cannot_be_supported_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=REFUSED[name]) as refused:
        LanguageModel(tiny(name), TOKENIZER)
    assert len(str(refused.value)) <= 300 and "\n" not in str(refused.value)


def test_models_that_see_what_follows_are_refused():
    with pytest.raises(ValueError, match="no function of the embeddings so far"):
        LanguageModel(tiny("bert", is_decoder=False), TOKENIZER)


def test_blocks_that_cannot_be_computed_again_are_named():
    with pytest.raises(ValueError, match="leave gradient_checkpointing out"):
        checkpoint_blocks(tiny("gpt_neox_japanese"))


def read(language_model, embeddings, lengths, prefix=(), still=None):
    mask = torch.arange(embeddings.shape[1]) < torch.tensor(lengths)[:, None]
    return language_model(embeddings, mask, prefix, still)


def test_loss_and_gradient_are_the_model_s_own(family):
    embeddings = family.embed([IDS]).detach().requires_grad_()
    rows = []
    hook = family.model.get_output_embeddings().register_forward_hook(
        lambda _module, inputs, _output: rows.append(inputs[0].shape[:-1].numel())
    )
    loss = family.response_loss(read(family, embeddings, [7]), torch.tensor([IDS]), chunk_size=4)
    hook.remove()
    (gradient,) = torch.autograd.grad(loss, embeddings)
    assert rows == [4, 2]

    words = family.model(input_ids=torch.tensor([IDS]), labels=torch.tensor([IDS]))
    torch.testing.assert_close(loss, words.loss, rtol=1e-4, atol=1e-5)
    logits = family.model(inputs_embeds=embeddings).logits[0, :-1].float()
    (expected,) = torch.autograd.grad(cross_entropy(logits, torch.tensor(IDS[1:])), embeddings)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_a_row_is_what_it_is_alone(family):
    with torch.no_grad():
        embeddings, mask = pack([family.embed(row) for row in ROWS])
        together = family(embeddings, mask)
        for row, hidden in zip(ROWS, together, strict=True):
            alone = read(family, family.embed([row]), [len(row)])[0]
            torch.testing.assert_close(hidden[: len(row)], alone, rtol=1e-3, atol=1e-4)


def test_positions_without_gradient_and_a_shared_prefix_change_nothing(family):
    embeddings, mask = pack([family.embed(row) for row in ROWS])
    labels = torch.full(mask.shape, IGNORE)
    for row, ids in enumerate(ROWS):
        labels[row, len(ids) - 2 : len(ids)] = torch.tensor(ids[-2:])
    found = []
    for prefix, still in [((), None), ([5, 6], None), ([5, 6], [4, 3, 3]), ((), [3, 2, 4])]:
        leaf = embeddings.detach().clone().requires_grad_()
        loss = family.response_loss(family(leaf, mask, prefix, still), labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
        found.append((loss.detach(), gradient[:, 4:]))
    for before, after in pairwise(found):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-5)


def test_replies_to_embeddings_are_the_replies_to_words(family):
    prompts = [IDS[:5], [3, 4]]
    ours = family.generate(*pack([family.embed(prompt) for prompt in prompts], left=True), max_new_tokens=4)
    for prompt, (reply, _) in zip(prompts, ours, strict=True):
        ids = torch.tensor([prompt])
        own = family.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        assert own[0, len(prompt) :].tolist() == reply


def test_states_kept_in_generation_are_those_of_a_second_reading(family):
    prompts = [IDS[:5], [3, 4]]
    written = family.generate(*pack([family.embed(prompt) for prompt in prompts], left=True), max_new_tokens=4)
    for prompt, (reply, states) in zip(prompts, written, strict=True):
        assert family.logits(states).argmax(-1).tolist() == reply
        if family.model.config.model_type == "moshi":
            continue  # Its own cache gives others than its own reading.
        rows = family.embed([prompt + reply])
        again = read(family, rows, [rows.shape[1]])[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(states, again.detach(), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("name", ["gemma2", "cohere", "granite", "phi", "minicpm3", "nanochat"])
def test_the_head_alone_would_be_another_loss(name):
    family = LanguageModel(tiny(name), TOKENIZER)
    hidden = read(family, family.embed([IDS]), [7])
    head = family.model.get_output_embeddings()
    if head.bias is not None:
        head.bias.zero_()
    alone = cross_entropy(head(hidden[0, :-1]), torch.tensor(IDS[1:]))
    loss = LanguageModel(tiny(name), TOKENIZER).response_loss(hidden, torch.tensor([IDS]))
    assert not torch.isclose(alone, loss, rtol=1e-4)


@pytest.mark.parametrize("name", ["gemma2", "granite"])
def test_the_loss_is_made_in_single_precision(name):
    family = LanguageModel(tiny(name).bfloat16(), TOKENIZER)
    hidden = read(family, family.embed([IDS]), [7])
    expected = cross_entropy(family.logits(hidden[0, :-1]).float(), torch.tensor(IDS[1:]))
    loss = family.response_loss(hidden, torch.tensor([IDS]), chunk_size=4)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
