"""Write a fake CaFE: neutral without intensity folders, and accents broken by unpacking on Linux."""

import os
from pathlib import Path

from tests.corpora.noise import hidden, noise

FOLDERS = {
    "C": b"Col\x8are", "D": b"D\x82go\x96t", "J": b"Joie", "P": b"Peur", "S": b"Surprise", "T": b"Tristesse",
}  # fmt: skip


def write(root, odd=False, release="CaFE_48k", suffix=".wav"):
    top = Path(root) / release
    for actor in (1, 2):
        for sentence in (1, 6):
            noise(top / "Neutre" / f"{actor:02d}-N-1-{sentence}{suffix}", 48_000)
            for letter, folder in FOLDERS.items():
                for number, intensity in ((1, "Faible"), (2, "Fort")):
                    name = f"{actor:02d}-{letter}-{number}-{sentence}{suffix}"
                    noise(top / os.fsdecode(folder) / intensity / name, 48_000)
    hidden(top / "Neutre", "01-N-1-1.wav")
    (top / "Readme.txt").write_text("CaFE")
    if odd:
        noise(top / "Neutre" / "01-X-1-1.wav")
        noise(top / "Neutre" / "01-N.wav")
    return Path(root)
