"""Tiny audio files for fake corpora."""

import os
from pathlib import Path

import numpy as np
import soundfile


def noise(path, rate=16_000, seconds=0.1, channels=1):
    """Write noise in the format of the suffix; a container that soundfile cannot write gets a few bytes instead."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".m4a", ".webm", ".mp4"):
        path.write_bytes(b"\0\0\0\x18ftyp placeholder")
        return
    samples = 0.05 * np.random.default_rng(0).standard_normal((round(rate * seconds), channels))
    soundfile.write(os.fsencode(path), samples, rate)


def hidden(folder, name):
    """Write a resource fork as Macs leave them beside a file."""
    (Path(folder) / f"._{name}").write_bytes(b"\0\x05\x16\x07")
