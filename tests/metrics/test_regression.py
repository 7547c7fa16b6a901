import pytest
import torch
from torchmetrics.functional import concordance_corrcoef

from empathy_lightning.metrics import Concordance


def test_it_is_the_library_s_on_the_pooled_split():
    x, y = torch.rand(40), torch.rand(40)
    y[::5] = torch.nan
    metric = Concordance()
    for begin in range(0, 40, 8):
        metric.update(x[begin : begin + 8], y[begin : begin + 8])
    rated = y.isfinite()
    count = rated.sum()
    # The library divides the variances by n - 1 but not the squared difference of means; they differ by that alone.
    expected = concordance_corrcoef(x[rated], y[rated])
    assert metric.compute().item() == pytest.approx(expected.item(), abs=2 / count.item())
    assert abs(metric.compute()) <= 1


def test_agreement_shift_and_nothing():
    x = torch.rand(20)
    metric = Concordance()
    metric.update(x, x)
    assert metric.compute().item() == pytest.approx(1)
    metric.reset()
    metric.update(x, x + 1)
    variance = x.var(unbiased=False)
    assert metric.compute().item() == pytest.approx((2 * variance / (2 * variance + 1)).item(), rel=1e-4)
    metric.reset()
    assert metric.compute().isnan()
    metric.update(x, torch.full_like(x, torch.nan))
    assert metric.compute().isnan()
