"""A spoken reply beside its target, to look at: mel spectrograms with the pitch drawn over them."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.files import whole
from empathy_lightning.metrics.prosody import pitch_track
from empathy_lightning.modules.speech_encoder import LogMel

_HIGHEST = 500.0


def draw_speech(path: Path, target: Tensor | None, reply: Tensor, title: str) -> None:
    """Write a PNG: the target at the left, where there is one, and the reply at the right, on one scale.

    Args:
        path: The file.
        target: Waveform (T,) at 16 kHz, at least 0.1 s.
        reply: As the target.
        title: Line above both.
    """
    waveforms = {"reply": reply} if target is None else {"target": target, "reply": reply}
    figure = Figure(figsize=(5.5 * len(waveforms), 3), layout="tight")
    axes = figure.subplots(1, len(waveforms), squeeze=False)
    longest = max(map(len, waveforms.values())) / SAMPLE_RATE
    for axis, (name, waveform) in zip(axes[0], waveforms.items(), strict=True):
        mel, _ = LogMel()(waveform[None], torch.tensor([len(waveform)]))
        extent = (0, len(waveform) / SAMPLE_RATE, 0, 80)
        axis.imshow(mel[0], origin="lower", aspect="auto", extent=extent, cmap="magma")
        axis.set(title=name, xlabel="seconds", ylabel="mel band", xlim=(0, longest))
        pitch = axis.twinx()
        track = pitch_track(waveform)
        pitch.plot(0.025 + 0.01 * torch.arange(len(track)), track, ".", color="cyan", markersize=3)
        pitch.set(ylabel="F0 in Hz", ylim=(0, _HIGHEST))
    figure.suptitle(title if len(title) <= 110 else f"{title[:107]}...", fontsize=9)
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
