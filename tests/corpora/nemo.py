"""Write a fake nEMO in the official layout, quirks included."""

from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(2400)
EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")


def write(root):
    """Two speakers, blanks before their ids, and rows and files that miss each other."""
    root = Path(root) / "nEMO"
    (root / "samples").mkdir(parents=True)
    names = [f"{speaker}_{emotion}_1" for speaker in ("WR0", "EB0") for emotion in EMOTIONS]
    lines = ["file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage"]
    for name in [*names, "MK0_bored_64", "MK0_anger_64"]:
        speaker, emotion, _ = name.split("_")
        lines.append(f'{name}.wav\t{emotion}\t"To" jest źle.\tto jest źle\t        {speaker}\tmale\t23')
        if name != "MK0_anger_64":
            soundfile.write(root / "samples" / f"{name}.wav", NOISE, 24_000)
    soundfile.write(root / "samples" / "MK0_fear_1.wav", NOISE, 24_000)
    (root / "samples" / "._WR0_anger_1.wav").write_bytes(b"resource fork")
    (root / "data.tsv").write_text("\n".join([*lines, "MK0_fear_2.wav\tfear", ""]), encoding="utf-8")
    return root.parent
