"""Spoken replies drawn beside their targets: mel spectrograms with the pitch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read
from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.styles import style_of, targets_of
from empathy_lightning.files import whole
from empathy_lightning.metrics.prosody import pitch_track
from empathy_lightning.modules.speech_encoder import LogMel
from empathy_lightning.utterance import Utterance

_SHORTEST = 1_600
"""Samples that a picture needs at least."""

_HIGHEST = 500.0
"""Hz of the highest pitch that is drawn."""


class Pictures:
    """Draws the first replies of each style in turn, one PNG each, for the page.

    Args:
        out: Folder of the run, whose ``pictures`` they go to.
        targets: Manifest of the same replies as they should sound; None draws the replies alone.
        count: How many are drawn.

    Raises:
        InputError: If the manifest names no speech, or none is to be drawn.
    """

    name = "pictures"
    needs = ("response_path",)

    def __init__(self, out: str, targets: str | None = None, count: int = 5) -> None:
        if count < 1:
            raise InputError("pictures.count has to be at least 1")
        self.out, self.targets, self.count = Path(out), targets, count
        self._known = {} if targets is None else targets_of(Path(targets))

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with ``picture``, named from the folder of the run; None of those that are not drawn."""
        rows: list[dict[str, Any] | None] = [None] * len(replies)
        styles = [self._style(reply) for reply in replies]
        for index in _by_turns(styles):
            if sum(row is not None for row in rows) == self.count:
                break
            rows[index] = self._drawn(replies[index], styles[index])
        return Measured(rows, {"drawn": sum(row is not None for row in rows)})

    def _style(self, reply: Utterance) -> str:
        return style_of(self._known.get((reply.corpus, reply.id), reply)) or "unknown"

    def _drawn(self, reply: Utterance, style: str) -> dict[str, Any] | None:
        """Draw a reply; None where it, or its target, cannot be read or is too short."""
        target = self._known.get((reply.corpus, reply.id))
        try:
            shown = [read(one.response_path or "") for one in (target, reply) if one is not None]
        except AudioError:
            return None
        if min(map(len, shown)) < _SHORTEST:
            return None
        name = re.sub(r"[^A-Za-z0-9_-]", "_", f"{reply.suite or ''}_{style}_{reply.corpus}_{reply.id}")[:80].strip("_")
        place = Path("pictures", f"{name}.png")
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        beside = None if target is None else shown[0]
        draw_speech(self.out / place, beside, shown[-1], f"{style}: {reply.response}")
        return {"picture": str(place)}

    def made_from(self) -> dict[str, str]:
        """Content of the targets."""
        return {} if self.targets is None else {"targets": digest(self.targets)}


def _by_turns(styles: Sequence[str]) -> Iterator[int]:
    """Places of the replies, of each style in turn."""
    groups: dict[str, list[int]] = {}
    for index, style in enumerate(styles):
        groups.setdefault(style, []).append(index)
    for turn in range(max(map(len, groups.values()), default=0)):
        yield from (group[turn] for group in groups.values() if turn < len(group))


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
        # In the middle of each 50 ms frame, one every 10 ms.
        pitch.plot(0.025 + 0.01 * torch.arange(len(track)), track, ".", color="cyan", markersize=3)
        pitch.set(ylabel="F0 in Hz", ylim=(0, _HIGHEST))
    if len(title) > 110:
        title = f"{title[:107]}..."
    figure.suptitle(title, fontsize=9)
    with whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
