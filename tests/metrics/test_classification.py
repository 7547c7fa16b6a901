import pytest
import torch

from empathy_lightning.errors import InputError
from empathy_lightning.metrics import UnweightedAccuracy, WeightedAccuracy
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.outputs import EmpatheticOutput


class Labels:
    """The labels that a metric reads from a batch."""

    def __init__(self, emotion):
        self.emotion = emotion


def output(logits):
    return EmpatheticOutput(None, EmotionEstimate(logits, logits, *[torch.zeros(len(logits))] * 3))


def test_it_is_the_mean_recall_of_classes_present():
    metrics = [UnweightedAccuracy(4), WeightedAccuracy(4)]
    assert all(metric.compute().isnan() for metric in metrics)
    target = torch.tensor([0, 0, 0, 1, 1, 2, -100])
    predicted = torch.tensor([0, 0, 3, 1, 0, 2, 1])
    logits = torch.nn.functional.one_hot(predicted, 4).float()
    for metric in metrics:
        metric.update(output(logits[:4]), Labels(target[:4]))
        metric.update(output(logits[4:]), Labels(target[4:]))
    unweighted, weighted = (metric.compute() for metric in metrics)
    torch.testing.assert_close(unweighted, torch.tensor((2 / 3 + 1 / 2 + 1) / 3))
    torch.testing.assert_close(weighted, torch.tensor(4 / 6))


def test_without_an_emotion_nuance_module_there_is_nothing_to_measure():
    with pytest.raises(InputError, match="emotion_nuance"):
        WeightedAccuracy(4).update(EmpatheticOutput(None, None), Labels(torch.tensor([0])))
