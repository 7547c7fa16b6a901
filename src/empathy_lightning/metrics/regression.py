"""Agreement of ratings."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from empathy_lightning.data.batch import SpeechBatch
from empathy_lightning.errors import InputError, meant
from empathy_lightning.outputs import EmpatheticOutput, estimate_of
from empathy_lightning.utterance import RATINGS


def moments(predicted: Tensor, target: Tensor) -> Tensor:
    """Sums over the rated pairs, from which :func:`concordance` follows.

    Args:
        predicted: Shape (B,), NaN where nothing rates.
        target: Shape (B,), NaN where there is no rating.

    Returns:
        Sums of 1, x, y, x², y² and xy, shape (6,), in double precision.
    """
    rated = target.isfinite() & predicted.isfinite()
    # In float32 the differences of such sums would lose their digits.
    x, y = predicted[rated].double(), target[rated].double()
    return torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y]).sum(1)


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


def pearson(moments: Tensor) -> Tensor:
    """Pearson's correlation in -1..1 from moments (6,), as of :func:`concordance`; NaN also where a side is flat."""
    count, x, y, xx, yy, xy = moments
    if count < 2:
        return torch.full_like(count, torch.nan)
    covariance = xy / count - (x / count) * (y / count)
    spread = ((xx / count - (x / count) ** 2) * (yy / count - (y / count) ** 2)).sqrt()
    return covariance / spread


def mean_squared_error(moments: Tensor) -> Tensor:
    """Mean squared difference, 0 or more, from pooled moments (6,), as of :func:`concordance`; NaN without a pair."""
    count, _, _, xx, yy, xy = moments
    return (xx - 2 * xy + yy) / count


class Concordance(Metric):
    """Concordance of a dimension over all pairs of a split, pooled over batches and processes.

    Unlike torchmetrics' own, it may be computed where no pair came by, which gives
    NaN: every process of a distributed run takes part, whatever its share held.

    Args:
        dimension: ``arousal``, ``valence`` or ``dominance``.

    Raises:
        InputError: If there is no such dimension.
    """

    full_state_update = False

    def __init__(self, dimension: str) -> None:
        super().__init__()
        if dimension not in RATINGS:
            raise InputError(f"dimension {dimension!r} is none of {', '.join(RATINGS)}{meant(dimension, RATINGS)}")
        self.dimension = dimension
        self.add_state("moments", torch.zeros(6, dtype=torch.float64), dist_reduce_fx="sum")
        self.moments: Tensor

    def update(self, output: EmpatheticOutput, batch: SpeechBatch) -> None:
        """Add the rated utterances of a batch."""
        self.moments += moments(getattr(estimate_of(output), self.dimension), getattr(batch, self.dimension))

    def compute(self) -> Tensor:
        """Coefficient over the pooled pairs; NaN for fewer than two."""
        return concordance(self.moments).float()


class Pearson(Concordance):
    """Pearson's correlation of a dimension; arguments as of :class:`Concordance`."""

    def compute(self) -> Tensor:
        """Coefficient over the pooled pairs; NaN for fewer than two."""
        return pearson(self.moments).float()


class RatingError(Concordance):
    """Mean squared error of a dimension; arguments as of :class:`Concordance`."""

    def compute(self) -> Tensor:
        """Over the pooled pairs; NaN without one."""
        return mean_squared_error(self.moments).float()
