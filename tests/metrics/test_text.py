import random

import pytest
import torch

from empathy_lightning.metrics import chrf, distinct, greedy_match


def test_distinct_counts_over_the_whole_set():
    texts = [["a", "b", "a", "b"], ["b", "a"], []]
    assert distinct(texts, 1) == pytest.approx(2 / 6)
    assert distinct(texts, 2) == pytest.approx(2 / 4)  # ab, ba, ab and ba
    assert distinct(texts, 3) == pytest.approx(2 / 2)
    assert distinct(texts, 5) == 0 == distinct([], 1)


def test_greedy_match_by_hand():
    east, north, far = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([9.0, 9.0])
    candidate, reference = torch.stack([east, north, far])[None], torch.stack([3 * east, far])[None]
    # Without what does not count: 1 and 0 to the one token of the reference, 1 back.
    score = greedy_match(candidate, torch.tensor([[True, True, False]]), reference, torch.tensor([[True, False]]))
    assert score.tolist() == pytest.approx([2 * 0.5 * 1 / 1.5])
    both = greedy_match(candidate, torch.tensor([[True, True, False]]), reference, torch.tensor([[True, True]]))
    precision, recall = (1 + 0.5**0.5) / 2, (1 + 0.5**0.5) / 2
    assert both.tolist() == pytest.approx([2 * precision * recall / (precision + recall)])


def test_greedy_match_is_0_where_nothing_counts():
    tokens, counts = torch.eye(2)[None].expand(4, 2, 2), torch.tensor([[True, True]] * 4)
    none = torch.tensor([[True, True], [False, False], [True, True], [False, False]])
    assert greedy_match(tokens, none, tokens, counts).tolist() == pytest.approx([1, 0, 1, 0])
    assert greedy_match(tokens, counts, tokens, none).tolist() == pytest.approx([1, 0, 1, 0])
    east, north = torch.eye(2)[:, None, None]
    yes = torch.tensor([[True]])
    assert greedy_match(east, yes, north, yes).tolist() == [0]


def test_chrf_by_hand():
    # 1 and 2/4 of the characters, 1 and 1/3 of the pairs: precision 1, recall 5/12.
    assert chrf(["ab"], ["abcd"], longest=2) == pytest.approx(5 * (5 / 12) / (4 + 5 / 12))
    assert chrf(["ab"], ["abcd"], longest=2, beta=1) == pytest.approx(2 * (5 / 12) / (1 + 5 / 12))
    assert chrf(["a b"], ["ab"]) == 1 == chrf(["ab\n c"], [" abc"])
    assert chrf(["кот"], ["кит"], longest=1) == pytest.approx(2 / 3) == chrf(["你好吗"], ["你好啊"], longest=1)


def test_chrf_counts_the_references_of_replies_that_share_nothing():
    # Half of the characters and half of the pairs are missing.
    assert chrf(["", "ab"], ["cd", "ab"], longest=2) == pytest.approx(5 * 0.5 / (4 + 0.5))
    assert chrf(["xy", "ab"], ["cd", "ab"], longest=2) == pytest.approx(0.5)
    assert chrf([""], ["ab"]) == chrf(["ab"], [""]) == chrf(["ab"], ["cd"]) == chrf([], []) == 0


def test_chrf_by_an_independent_count():
    draw = random.Random(0)
    said, expected = (["".join(draw.choices("ab é", k=draw.randrange(14))) for _ in range(20)] for _ in range(2))
    means = [0.0, 0.0]
    for n in range(1, 7):
        found, sizes = 0, [0, 0]
        for pair in zip(said, expected, strict=True):
            squeezed = [text.replace(" ", "") for text in pair]
            own, left = ([text[i : i + n] for i in range(len(text)) if i + n <= len(text)] for text in squeezed)
            sizes = [sizes[0] + len(own), sizes[1] + len(left)]
            for gram in own:
                if gram in left:
                    left.remove(gram)
                    found += 1
        means = [mean + found / size / 6 for mean, size in zip(means, sizes, strict=True)]
    precision, recall = means
    assert 0.1 < precision < 0.9
    assert chrf(said, expected) == pytest.approx(1 / (0.2 / precision + 0.8 / recall))
