"""Which style a reply is spoken in, by its prosody: the nearest mean of the training replies' styles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from empathy_lightning.errors import InputError

FEATURES = ("f0_mean", "f0_range", "energy", "energy_range", "rate")
"""Figures of :func:`~empathy_lightning.metrics.prosody.prosody`; pitch and rate count by their logarithms."""

FEWEST = 2
"""Training replies that a style needs at least."""


class StyleClassifier:
    """Nearest class mean, each feature in units of its standard deviation inside the classes.

    Args:
        prosodies: Of training replies, with :data:`FEATURES`.
        styles: Of the same replies.

    Raises:
        InputError: If there are not two styles with two replies each.
    """

    def __init__(self, prosodies: Sequence[Mapping[str, float]], styles: Sequence[str]) -> None:
        self.styles = sorted(style for style in set(styles) if styles.count(style) >= FEWEST)
        if len(self.styles) < 2:
            raise InputError(f"styles are told apart where two have {FEWEST} training replies each or more")
        points = torch.stack([_features(prosody) for prosody in prosodies])
        groups = [points[[own == style for own in styles]] for style in self.styles]
        self.means = torch.stack([group.mean(0) for group in groups])
        inside = torch.cat([group - group.mean(0) for group in groups])
        self.scale = (inside.square().sum(0) / (len(inside) - len(groups))).sqrt().clamp(min=1e-6)

    def __call__(self, prosody: Mapping[str, float]) -> str:
        """The style of a reply."""
        distances = ((_features(prosody) - self.means) / self.scale).square().sum(1)
        return self.styles[int(distances.argmin())]


def _features(prosody: Mapping[str, float]) -> Tensor:
    # The range is that of a percentile to another, and may be 0 in a monotone voice.
    logarithms = {name: math.log(max(prosody[name], 1.0 if name == "f0_range" else 1e-3)) for name in FEATURES[:2]}
    logarithms["rate"] = math.log(max(prosody["rate"], 1e-3))
    return torch.tensor([logarithms.get(name, prosody[name]) for name in FEATURES])
