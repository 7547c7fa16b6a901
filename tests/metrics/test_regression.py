import pytest
import torch
from torchmetrics.functional import concordance_corrcoef

from empathy_lightning.errors import InputError
from empathy_lightning.metrics import Concordance
from empathy_lightning.modules.emotion_heads import EmotionEstimate
from empathy_lightning.outputs import EmpatheticOutput


class Ratings:
    """The ratings that a metric reads from a batch."""

    def __init__(self, valence):
        self.valence = valence


def add(metric, predicted, target):
    nothing = torch.zeros(len(predicted))
    metric.update(
        EmpatheticOutput(None, EmotionEstimate(nothing, nothing, nothing, predicted, nothing)), Ratings(target)
    )


def test_it_is_the_library_s_on_the_pooled_split():
    x, y = torch.rand(40), torch.rand(40)
    y[::5] = torch.nan
    metric = Concordance("valence")
    for begin in range(0, 40, 8):
        add(metric, x[begin : begin + 8], y[begin : begin + 8])
    rated = y.isfinite()
    count = rated.sum()
    # The library divides the variances by n - 1 but not the squared difference of means; they differ by that alone.
    expected = concordance_corrcoef(x[rated], y[rated])
    assert metric.compute().item() == pytest.approx(expected.item(), abs=2 / count.item())
    assert abs(metric.compute()) <= 1


def test_agreement_shift_and_nothing():
    x = torch.rand(20)
    metric = Concordance("valence")
    add(metric, x, x)
    assert metric.compute().item() == pytest.approx(1)
    metric.reset()
    add(metric, x, x + 1)
    variance = x.var(unbiased=False)
    assert metric.compute().item() == pytest.approx((2 * variance / (2 * variance + 1)).item(), rel=1e-4)
    metric.reset()
    assert metric.compute().isnan()
    add(metric, x, torch.full_like(x, torch.nan))
    assert metric.compute().isnan()


def test_a_dimension_that_is_none_is_refused():
    with pytest.raises(InputError, match="'colour' is none of arousal, valence, dominance"):
        Concordance("colour")
