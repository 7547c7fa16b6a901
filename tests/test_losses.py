import math

import numpy as np
import pytest
import torch

from empathy_lightning.losses import CategoricalLoss, ConcordanceLoss, RatingLoss
from empathy_lightning.models import EmpatheticOutput
from empathy_lightning.modules.emotion_nuance import EmotionEstimate


class Labels:
    """The labels that a loss reads from a batch."""

    def __init__(self, emotion, arousal, valence, dominance):
        self.emotion = torch.tensor(emotion)
        self.arousal, self.valence, self.dominance = map(torch.tensor, (arousal, valence, dominance))


def output():
    logits = torch.randn(3, 4, requires_grad=True)
    ratings = torch.rand(3, 3, requires_grad=True)
    embedding = torch.randn(3, 2, requires_grad=True)
    return EmpatheticOutput(None, EmotionEstimate(embedding, logits, *ratings.unbind(1)))


NAN = math.nan
LABELLED = Labels([0, 3, -100], [0.1, 0.9, NAN], [NAN, 0.2, 0.3], [0.5, 0.4, 0.6])
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


@pytest.mark.parametrize("loss", [CategoricalLoss(), RatingLoss(), ConcordanceLoss()], ids=lambda x: type(x).__name__)
def test_no_labels_give_a_connected_zero(loss):
    result = output()
    value = loss(result, UNLABELLED)
    assert value.item() == 0
    value.backward()


def test_a_model_without_nuance_is_told_so():
    with pytest.raises(ValueError, match="emotion_nuance"):
        CategoricalLoss()(EmpatheticOutput(None, None), LABELLED)
