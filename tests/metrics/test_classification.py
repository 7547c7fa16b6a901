import torch

from empathy_lightning.metrics import EmotionConfusion, unweighted_accuracy, weighted_accuracy


def test_it_is_the_mean_recall_of_classes_present():
    metric = EmotionConfusion(4)
    target = torch.tensor([0, 0, 0, 1, 1, 2, -100])
    predicted = torch.tensor([0, 0, 3, 1, 0, 2, 1])
    logits = torch.nn.functional.one_hot(predicted, 4).float()
    metric.update(logits[:4], target[:4])
    metric.update(logits[4:], target[4:])
    counts = metric.compute()
    assert counts.sum() == 6
    torch.testing.assert_close(unweighted_accuracy(counts), torch.tensor((2 / 3 + 1 / 2 + 1) / 3))
    torch.testing.assert_close(weighted_accuracy(counts), torch.tensor(4 / 6))
