import pytest
import torch

from empathy_lightning.modules.language_model import IGNORE, pack


def test_pack_pads_at_one_end_only():
    rows = [torch.ones(3, 2), torch.ones(1, 2)]
    right, right_mask = pack(rows)
    left, left_mask = pack(rows, left=True)
    assert right_mask.tolist() == [[True] * 3, [True, False, False]]
    assert left_mask.tolist() == [[True] * 3, [False, False, True]]
    assert (right[~right_mask] == 0).all() and (left[~left_mask] == 0).all()


@pytest.mark.parametrize("chunk_size", [1, 3, 1024])
def test_response_loss_and_gradient_are_the_library_s(language_model, chunk_size):
    ids = torch.randint(0, 100, (2, 9))
    labels = ids.clone()
    labels[0, :4] = IGNORE
    labels[1, :6] = IGNORE
    embeddings = language_model.embed(ids).detach().requires_grad_()
    hidden = language_model(embeddings, torch.ones(2, 9, dtype=torch.bool))
    loss = language_model.response_loss(hidden, labels, chunk_size)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    expected = language_model.model(inputs_embeds=embeddings, labels=labels).loss
    (expected_gradient,) = torch.autograd.grad(expected, embeddings)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


def test_text_through_the_wrapper_is_the_bare_model_s_text(language_model):
    tokenizer = language_model.tokenizer
    ids = [tokenizer(text).input_ids for text in ("hello there", "hm")]
    batched = language_model.generate(*pack([language_model.embed(row) for row in ids], left=True), max_new_tokens=12)
    for row, reply in zip(ids, batched, strict=True):
        bare = language_model.model.generate(
            torch.tensor([row]), attention_mask=torch.ones(1, len(row)), max_new_tokens=12, do_sample=False
        )[0, len(row) :].tolist()
        assert reply == bare


def test_draws_follow_the_seed_and_leave_the_random_state_alone(language_model):
    prompt = pack([language_model.embed([5, 6, 7])], left=True)
    before = torch.random.get_rng_state()
    first = language_model.generate(*prompt, max_new_tokens=20, temperature=1.0, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == language_model.generate(*prompt, max_new_tokens=20, temperature=1.0, seed=1)
    assert first != language_model.generate(*prompt, max_new_tokens=20, temperature=1.0, seed=2)
