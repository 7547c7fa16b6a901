"""Mimi as a vocoder of its first codebook: what the others would add is said by a small head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.modules.contracts import SoundStream, check_units
from empathy_lightning.modules.mimi import MimiCodec

_KERNEL, _DILATIONS = 5, (1, 2, 4)


class MimiVocoder(nn.Module):
    """Codes of Mimi's first codebook to speech, as they come, without hearing ahead.

    The first codebook says the words; voice and sound are in the others. A speech decoder that writes all of them, by a
    delay pattern, needs as many streams and another loss, and its first sound waits for the slowest. So it writes the
    first alone, and a head of causal convolutions gives the sum that the other codebooks would add: one voice, that of
    the recordings it was trained on. It trains as any vocoder does, through the frozen codec, from waveforms alone.

    Args:
        codec: Mimi.
        channels: Width of the head.
    """

    def __init__(self, codec: MimiCodec, channels: int = 256) -> None:
        super().__init__()
        self.codec = codec
        self.channels = channels
        self.sample_rate = codec.sample_rate
        self.num_units = codec.num_units
        self.samples_per_unit = codec.samples_per_unit
        # Its attention hears far back, so it streams by its cache and not by an overlap.
        self.context = None
        self.embedding = nn.Embedding(codec.num_units, channels)
        self.convolutions = nn.ModuleList(nn.Conv1d(channels, channels, _KERNEL, dilation=d) for d in _DILATIONS)
        self.output = nn.Linear(channels, codec.width)
        # An untrained head adds nothing to what the first codebook says.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def history(self) -> int:
        """Units before a unit of which its latent hears."""
        return sum((_KERNEL - 1) * dilation for dilation in _DILATIONS)

    def latents(self, units: Tensor) -> Tensor:
        """Sum over all codebooks, shape (B, D, U), for units (B, U)."""
        hidden = self.embedding(units).mT
        for convolution, dilation in zip(self.convolutions, _DILATIONS, strict=True):
            padded = nn.functional.pad(hidden, ((_KERNEL - 1) * dilation, 0))
            hidden = hidden + nn.functional.gelu(convolution(padded))
        return self.codec.latents(units[:, None]) + self.output(hidden.mT).mT

    def forward(self, units: Tensor) -> Tensor:
        """Waveforms (B, T) of units (B, U), T = U * ``samples_per_unit``; with gradients while training.

        Raises:
            VocoderError: If a unit is beyond the codebook.
        """
        check_units(units, self)
        if not units.shape[1]:
            return torch.zeros(len(units), 0, device=units.device)
        states, _ = self.codec.attended(self.codec.upsampled(self.latents(units)))
        waveform = self.codec.waveform(states)
        # A clipped sample would teach nothing.
        return waveform if self.training else waveform.clamp(-1, 1)

    def begin(self) -> SoundStream:
        """A reply of its own, with the transformer's cache."""
        return _Stream(self)


class _Stream:
    """Each block is run with what its convolutions hear before it; the attention keeps its cache."""

    def __init__(self, vocoder: MimiVocoder) -> None:
        self.vocoder = vocoder
        self.units = torch.zeros(0, dtype=torch.long)
        self.states: Tensor | None = None
        self.cache: Any = None

    @torch.inference_mode()
    def push(self, units: Tensor) -> Tensor:
        """All samples of the units (n,): nothing is heard ahead."""
        if not len(units):
            return torch.zeros(0)
        codec, before = self.vocoder.codec, self.units.to(units.device)
        heard = torch.cat([before, units])
        frames = codec.upsampled(self.vocoder.latents(heard[None]))
        # Those of the units before are in the cache already.
        new = frames[:, len(before) * frames.shape[1] // len(heard) :]
        states, self.cache = codec.attended(new, self.cache, keep=True)
        joined = states if self.states is None else torch.cat([self.states, states], 1)
        waveform = codec.waveform(joined)[0, (joined.shape[1] - states.shape[1]) * codec.samples_per_state :]
        self.units = heard[-self.vocoder.history - codec.upsample_history :]
        self.states = joined[:, -codec.waveform_history :]
        return waveform.clamp(-1, 1)

    def end(self) -> Tensor:
        """Nothing: all of it was heard."""
        return torch.zeros(0)

    def close(self) -> None:
        """Let go of the cache."""
        self.units = self.units[:0]
        self.states = None
        self.cache = None
