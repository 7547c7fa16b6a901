"""Write a fake RAVDESS in the official layout, quirks included."""

import random
from pathlib import Path

import numpy as np
import soundfile


def write(root, actors=6, repetitions=1):
    """Speech of some actors: 48 kHz, one stereo file, hidden files and a song beside it."""
    folder = Path(root) / "Audio_Speech_Actors_01-24"
    generator = random.Random(0)
    for actor in range(1, actors + 1):
        (folder / f"Actor_{actor:02d}").mkdir(parents=True, exist_ok=True)
        for emotion in range(1, 9):
            for intensity in (1,) if emotion == 1 else (1, 2):
                for repetition in range(1, repetitions + 1):
                    name = f"03-01-{emotion:02d}-{intensity:02d}-01-{repetition:02d}-{actor:02d}.wav"
                    length = generator.randrange(20_000, 40_000)
                    channels = 2 if (actor, emotion) == (1, 2) else 1
                    noise = 0.05 * np.random.default_rng(emotion).standard_normal((length, channels))
                    soundfile.write(folder / f"Actor_{actor:02d}" / name, noise, 48_000)
    (folder / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"resource fork")
    (folder / "Actor_01" / "03-02-01-01-01-01-01.wav").write_bytes(b"song")
    (folder / "Actor_01" / "notes.txt").write_text("not audio")
    return Path(root)
