"""How many units are heard in a unit's samples: the context of a convolutional vocoder, counted from its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Branches:
    """Layers side by side over the same input, whose outputs are added: HiFi-GAN's residual blocks of several kernels.

    Attributes:
        each: The layers of each branch, in their order.
    """

    each: tuple[Sequence[nn.Conv1d], ...]


Layer = nn.Conv1d | nn.ConvTranspose1d | Branches


def samples_per_unit(layers: Sequence[Layer]) -> int:
    """Samples that each unit becomes: the product of the strides of the transposed convolutions.

    Raises:
        ValueError: If one of them does not give as many times its input as its stride.
    """
    samples = 1
    for layer in layers:
        if not isinstance(layer, nn.ConvTranspose1d):
            continue
        kernel, stride, padding = _sizes(layer)
        if kernel - stride != 2 * padding:
            raise ValueError(
                f"a transposed convolution with kernel {kernel}, stride {stride} and padding {padding} does not give "
                f"{stride} frames for each: kernel - stride has to be even, and the padding half of it"
            )
        samples *= stride
    return samples


def context_of(layers: Sequence[Layer]) -> int:
    """Units on either side that are heard in a unit's samples.

    The positions that an output reads are followed backwards, layer by layer: a convolution that keeps the length
    reaches ``dilation * (kernel - 1) / 2`` to either side, and output ``o`` of a transposed one reads the inputs from
    ``(o + padding - kernel + 1) / stride`` to ``(o + padding) / stride``.

    Args:
        layers: From the units' embeddings to the samples; convolutions keep the length, whoever pads for them.

    Returns:
        The larger of both sides.
    """
    first, last = 0, samples_per_unit(layers) - 1
    for layer in reversed(layers):
        if isinstance(layer, nn.ConvTranspose1d):
            kernel, stride, padding = _sizes(layer)
            first, last = math.ceil((first + padding - kernel + 1) / stride), (last + padding) // stride
        else:
            reach = _reach(layer)
            first, last = first - reach, last + reach
    return max(-first, last)


def history_of(layers: Sequence[nn.Conv1d | nn.ConvTranspose1d]) -> int:
    """Units before a unit that are heard in its samples, of layers that hear nothing after it.

    Args:
        layers: Convolutions that are padded on their left alone, and transposed ones that are cut on their right.
    """
    first = 0
    for layer in reversed(layers):
        kernel, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        if isinstance(layer, nn.ConvTranspose1d):
            first = math.ceil((first - kernel + 1) / stride)
        else:
            first -= dilation * (kernel - 1)
    return -first


def fewest_units(layers: Sequence[Layer]) -> int:
    """Units that there have to be where the convolutions mirror their input at both ends, as SpeechBrain's do."""
    fewest, frames = 1, 1
    for layer in layers:
        if isinstance(layer, nn.ConvTranspose1d):
            frames *= layer.stride[0]
            continue
        branches = layer.each if isinstance(layer, Branches) else ((layer,),)
        for branch in branches:
            for convolution in branch:
                # Mirroring needs one more frame than it reaches.
                fewest = max(fewest, _reach(convolution) // frames + 1)
    return fewest


def _reach(layer: nn.Conv1d | Branches) -> int:
    """Frames to either side that a frame reads."""
    if isinstance(layer, Branches):
        return max(sum(map(_reach, branch)) for branch in layer.each)
    return math.ceil(layer.dilation[0] * (layer.kernel_size[0] - 1) / 2)


def _sizes(layer: nn.ConvTranspose1d) -> tuple[int, int, int]:
    padding: Any = layer.padding
    return layer.kernel_size[0], layer.stride[0], padding[0]
