"""Which style a reply is spoken in, by its prosody: the nearest mean of the training replies' styles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, read
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance

FEATURES = ("f0_mean", "f0_range", "energy", "energy_range", "rate")
"""Figures of :func:`~empathy_lightning.metrics.prosody.prosody`; pitch and rate count by their logarithms."""

FEWEST = 2
"""Training replies that a style needs at least."""

PER_STYLE = 100
"""Training replies of a style that tell what it sounds like, the first ones."""


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
        groups = []
        for style in self.styles:
            is_own = torch.tensor([own == style for own in styles])
            groups.append(points[is_own])
        self.means = torch.stack([group.mean(0) for group in groups])
        # As many degrees of freedom are gone as there are means.
        inside = torch.cat([group - group.mean(0) for group in groups])
        self.scale = (inside.square().sum(0) / (len(inside) - len(groups))).sqrt().clamp(min=1e-6)

    def __call__(self, prosody: Mapping[str, float]) -> str:
        """The style of a reply."""
        distances = ((_features(prosody) - self.means) / self.scale).square().sum(1)
        return self.styles[int(distances.argmin())]


def style_of(utterance: Utterance) -> str | None:
    """The style that a reply records (``prepare speech``); else the emotion that it answers."""
    return utterance.raw_labels.get("reply_style") or utterance.emotion


def sound_of(reply: Utterance) -> dict[str, float]:
    """Prosody and ``seconds`` of a spoken reply; only the latter without a voice.

    Raises:
        AudioError: If the speech cannot be read.
    """
    waveform = read(reply.response_path or "")
    try:
        sound = prosody(waveform, max(1, len(words(reply.response or ""))))
    except ValueError:
        sound = {}
    return {**{name: round(value, 4) for name, value in sound.items()}, "seconds": len(waveform) / SAMPLE_RATE}


def targets_of(manifest: Path) -> dict[tuple[str, str], Utterance]:
    """Utterances with spoken replies by corpus and id: replies as they should sound.

    Raises:
        InputError: If there is none.
    """
    found = {(u.corpus, u.id): u for u in read_chosen(manifest, "all", audio=False) if u.response_path}
    if not found:
        raise InputError(f"{manifest} names no speech (response_path): make it with `prepare speech`")
    return found


def training_replies(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The first spoken training replies of each style, at most :data:`PER_STYLE`."""
    taken: Counter[str] = Counter()
    found = []
    for reply in utterances:
        style = style_of(reply)
        if reply.split == "train" and reply.response_path and style is not None and taken[style] < PER_STYLE:
            taken[style] += 1
            found.append(reply)
    return found


def _features(prosody: Mapping[str, float]) -> Tensor:
    logarithms = {
        "f0_mean": math.log(max(prosody["f0_mean"], 1e-3)),
        # From one percentile to another; it may be 0 in a monotone voice.
        "f0_range": math.log(max(prosody["f0_range"], 1.0)),
        "rate": math.log(max(prosody["rate"], 1e-3)),
    }
    return torch.tensor([logarithms.get(name, prosody[name]) for name in FEATURES])
