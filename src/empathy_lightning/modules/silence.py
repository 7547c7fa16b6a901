"""Silence at the ends of a recording."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def trim_silence(waveform: Tensor, lengths: Tensor, decibels: float = 40.0, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Cut silence off both ends.

    Args:
        waveform: Samples at 16 kHz, right-padded, shape (B, T).
        lengths: Valid samples, shape (B,).
        decibels: Stretches of 20 ms this far below an utterance's loudest one are silence.
        margin: Samples of it that are left at either end, where there are as many.

    Returns:
        From the first stretch that is louder to the last, shape (B, T'), zero where padded, and their valid samples.
        What is shorter than two stretches stays as it is.
    """
    hop = 320  # 20 ms
    count = lengths // hop
    width = max(1, int(count.max()))
    stretches = nn.functional.pad(waveform, (0, hop))[:, : width * hop].unflatten(1, (width, hop))
    beyond = torch.arange(width, device=count.device) >= count[:, None]
    power = stretches.square().mean(2).masked_fill(beyond, -1)
    loud = power >= power.amax(1, keepdim=True) * 10 ** (-decibels / 10)
    first = loud.long().argmax(1)
    last = width - 1 - loud.flip(1).long().argmax(1)
    kept = count >= 2
    begin = torch.where(kept, first * hop - margin, 0).clamp(min=0)
    end = torch.minimum((last + 1) * hop + margin, lengths)
    sizes = torch.where(kept, end - begin, lengths)
    positions = torch.arange(int(sizes.max()), device=begin.device)
    index = (begin[:, None] + positions).clamp(max=waveform.shape[1] - 1)
    return waveform.gather(1, index) * (positions < sizes[:, None]), sizes
