import pytest
import torch

from empathy_lightning.metrics import distinct, greedy_match


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
