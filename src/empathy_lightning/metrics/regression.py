"""Agreement of ratings."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


def concordance(moments: Tensor) -> Tensor:
    """Concordance correlation coefficient (Lin 1989) from pooled moments.

    Args:
        moments: Sums of 1, x, y, x², y² and xy, shape (6,), in double precision.

    Returns:
        Scalar in -1..1; NaN for fewer than two pairs.

    Example:
        >>> x, y = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])
        >>> concordance(torch.stack([torch.ones(3), x, y, x * x, y * y, x * y]).double().sum(1))
        tensor(1., dtype=torch.float64)
    """
    count, x, y, xx, yy, xy = moments
    if count < 2:
        return torch.full_like(count, torch.nan)
    mean_x, mean_y = x / count, y / count
    covariance = xy / count - mean_x * mean_y
    spread = xx / count - mean_x**2 + yy / count - mean_y**2 + (mean_x - mean_y) ** 2
    return 2 * covariance / spread


class Concordance(Metric):
    """Concordance over all pairs of a split, pooled over batches and processes; unrated pairs are left out.

    Unlike torchmetrics' own, it may be computed where no pair came by, which gives
    NaN: every process of a distributed run takes part, whatever its share held.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("moments", torch.zeros(6, dtype=torch.float64), dist_reduce_fx="sum")
        self.moments: Tensor

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add a batch: predictions (B,), targets (B,) with NaN where there is no rating."""
        rated = target.isfinite()
        x, y = predicted[rated].double(), target[rated].double()
        self.moments += torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]).sum(1)

    def compute(self) -> Tensor:
        """Coefficient over the pooled pairs."""
        return concordance(self.moments).float()
