import pytest
import torch

from empathy_lightning.modules.language_model import pack
from empathy_lightning.modules.sampling import SeededDraw, nucleus


def test_draws_have_the_frequencies_of_the_softmax():
    scores = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    draw = SeededDraw(temperature=0.7, seed=3)
    counts = torch.zeros(4)
    for _ in range(4_000):
        counts[draw(None, scores).argmax()] += 1
    expected = (scores[0] / 0.7).softmax(-1)
    assert (counts / 4_000 - expected).abs().max() < 0.03


@pytest.mark.parametrize(("top_p", "kept"), [(0.1, [2]), (0.5, [2]), (0.51, [0, 2]), (0.8, [0, 2]), (0.81, [0, 2, 3])])
def test_the_nucleus_is_the_fewest_tokens_that_reach_the_sum(top_p, kept):
    probabilities = torch.tensor([[0.3, 0.05, 0.5, 0.15]])
    assert nucleus(probabilities.log(), top_p)[0].nonzero()[:, 0].tolist() == kept


def test_nothing_outside_the_nucleus_is_drawn():
    scores = torch.tensor([[0.3, 0.05, 0.5, 0.15]]).log()
    draw = SeededDraw(temperature=1.0, top_p=0.7)
    assert {int(draw(None, scores).argmax()) for _ in range(300)} == {0, 2}


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 1.0, "top_p": 0.0}, {"temperature": -1.0}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(ValueError, match="draws need"):
        SeededDraw(**options)


def test_a_drawn_reply_does_not_depend_on_the_batch(language_model):
    prompts = [language_model.embed(torch.randint(3, 100, (n,))) for n in (5, 9, 2)]
    options = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 4}

    def _drawn(rows, **changed):
        return [ids for ids, _ in language_model.generate(*pack(rows, left=True), **{**options, **changed})]

    together = _drawn(prompts)
    assert together == [_drawn([prompt])[0] for prompt in prompts]
    assert together != _drawn(prompts, seed=5)


def test_rows_with_seeds_of_their_own_draw_apart_and_each_as_alone():
    scores = torch.zeros(1, 1000)
    together = SeededDraw(1.0, seed=[3, 4, 3])(None, scores.expand(3, -1)).argmax(1).tolist()
    alone = [int(SeededDraw(1.0, seed=seed)(None, scores).argmax()) for seed in (3, 4, 3)]
    assert together == alone and together[0] == together[2] != together[1]
