"""SpeechBrain's unit HiFi-GAN: an embedding of the units, and HiFi-GAN's generator over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.modules.contracts import check_units
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports
from empathy_lightning.modules.vocoders.receptive_field import (
    Branches,
    Layer,
    context_of,
    fewest_units,
    samples_per_unit,
)


class UnitHifiGan(nn.Module):
    """Units of one codebook to speech, to be trained or used (Polyak et al. 2021, arXiv 2104.00355).

    The defaults are SpeechBrain's: 50 units a second at 16 kHz, 13 million weights. All units last alike; whoever drops
    repeated ones needs a duration predictor, which this has none of.

    Args:
        num_units: Size of the vocabulary.
        sample_rate: In Hz; the rate of the units is this by the product of ``upsample_factors``.
        upsample_factors: Strides of the transposed convolutions.
        upsample_kernel_sizes: Their kernels, each as even or odd as its stride.
        channels: Before the first of them; halved by each.
        embedding_size: Width of a unit's embedding.
        kernel_sizes: Of the residual blocks side by side.
        dilations: Three for each of ``kernel_sizes``.

    Raises:
        ValueError: If a kernel does not go with its stride.
    """

    def __init__(
        self,
        num_units: int = 1000,
        sample_rate: int = 16_000,
        upsample_factors: Sequence[int] = (5, 4, 4, 2, 2),
        upsample_kernel_sizes: Sequence[int] = (11, 8, 8, 4, 4),
        channels: int = 512,
        embedding_size: int = 128,
        kernel_sizes: Sequence[int] = (3, 7, 11),
        dilations: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
    ) -> None:
        super().__init__()
        with speechbrain_imports():
            from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
        self.num_units = num_units
        self.sample_rate = sample_rate
        self.upsample_factors = list(upsample_factors)
        self.upsample_kernel_sizes = list(upsample_kernel_sizes)
        self.channels = channels
        self.embedding_size = embedding_size
        self.kernel_sizes = list(kernel_sizes)
        self.dilations = [list(row) for row in dilations]
        self.generator: Any = UnitHifiganGenerator(
            in_channels=embedding_size,
            out_channels=1,
            resblock_type="1",
            resblock_dilation_sizes=self.dilations,
            resblock_kernel_sizes=self.kernel_sizes,
            upsample_kernel_sizes=self.upsample_kernel_sizes,
            upsample_initial_channel=channels,
            upsample_factors=self.upsample_factors,
            vocab_size=num_units,
            embedding_dim=embedding_size,
            pooling_type="none",  # There is one codebook, so nothing to pool.
        )
        layers = self._layers()
        self.samples_per_unit = samples_per_unit(layers)
        self.context = context_of(layers)
        self._fewest = fewest_units(layers)

    def _layers(self) -> list[Layer]:
        generator, width = self.generator, len(self.kernel_sizes)
        layers: list[Layer] = [generator.conv_pre.conv]
        for level, up in enumerate(generator.ups):
            blocks = generator.resblocks[level * width : (level + 1) * width]
            layers += [up.conv, Branches(tuple(_in_order(block.convs1, block.convs2) for block in blocks))]
        return [*layers, generator.conv_post.conv]

    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) in -1..1 of units (B, U), T = U * ``samples_per_unit``; with gradients while training.

        Raises:
            VocoderError: If a unit is beyond ``num_units``.
        """
        check_units(units, self)
        count = units.shape[1]
        if not count:
            return torch.zeros(len(units), 0, device=units.device)
        # The convolutions mirror the ends of their input, for which a very short reply has too little.
        longer = torch.cat([units, units[:, -1:].expand(-1, max(0, self._fewest - count))], 1)
        waveform: Tensor = self.generator(longer[..., None])[0][:, 0]
        return waveform[:, : count * self.samples_per_unit]


def _in_order(first: Sequence[Any], second: Sequence[Any]) -> list[nn.Conv1d]:
    """Convolutions of a residual block, one of each list by turns."""
    convolutions: list[nn.Conv1d] = []
    for one, other in zip(first, second, strict=True):
        convolutions += [one.conv, other.conv]
    return convolutions
