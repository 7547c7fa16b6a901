"""Write a fake ESD in both of its layouts, quirks included."""

import io
from pathlib import Path

import numpy as np
import soundfile

FOLDERS = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
CHINESE = ("中立", "生气", "快乐", "伤心", "惊喜")
POSITIONS = (1, 20, 21, 50, 51, 350)
ENCODINGS = {"0001": "gb18030", "0003": "utf-16", "0011": "utf-8-sig", "0012": "utf-16", "0016": "latin-1"}


def noise():
    file = io.BytesIO()
    soundfile.write(file, 0.05 * np.random.default_rng(0).standard_normal(1600), 16_000, format="WAV")
    return file.getvalue()


def split(position):
    return "evaluation" if position <= 20 else "test" if position <= 50 else "train"


def write(root, folder="Emotion Speech Dataset", with_splits=True):
    """Five speakers in five encodings, broken lines, and files and lines that miss each other."""
    root = Path(root) / folder
    sound = noise()
    for speaker, encoding in ENCODINGS.items():
        lines = []
        for block, emotion in enumerate(FOLDERS):
            for position in POSITIONS:
                name = f"{speaker}_{350 * block + position:06d}"
                path = root / speaker / emotion / (split(position) if with_splits else "") / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(sound)
                text = "今天下雨。" if speaker < "0011" else f"The café, number {position}."
                lines.append(f"{name}\t{text}\t{CHINESE[block] if speaker == '0001' else emotion}")
        if speaker == "0012":
            lines[0] = lines[0].replace("\t", " ")
            lines[1] = lines[1].split("\t")[0]
            lines[2] = lines[2].replace("Neutral", "Happy")
            lines.append("0012_000002\tA line without audio.\tNeutral")
        line_end = "\r\n" if speaker == "0016" else "\n"
        (root / speaker / f"{speaker}.txt").write_bytes((line_end.join(lines) + 2 * line_end).encode(encoding))
    (root / "ReadMe.txt").write_text("ESD")
    (root / "0011" / "Angry" / "._0011_000351.wav").write_bytes(b"resource fork")
    (root / "0011" / "Angry" / "0011_001751.wav").write_bytes(b"no such number")
    return root.parent
