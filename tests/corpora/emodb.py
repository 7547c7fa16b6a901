"""Write a fake EmoDB in the official layout, quirks included."""

from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(1600)
NAMES = ("03a01Fa", "03a02Wc", "08a04Lb", "09a05Ea", "10b01Ad", "16b02Tb", "14b10Nb")


def write(root, wav="wav"):
    """One file per emotion, the listening test in Latin-1, label files and strange names."""
    root = Path(root)
    for folder in (wav, "silb", "lablaut", "labsilb"):
        (root / folder).mkdir(parents=True)
    for name in NAMES:
        soundfile.write(root / wav / f"{name}.wav", NOISE, 16_000)
        (root / "lablaut" / f"{name}xx.lablaut").write_text("signal")
    soundfile.write(root / wav / "03a01Xa.wav", NOISE, 16_000)
    soundfile.write(root / wav / "notes.wav", NOISE, 16_000)
    (root / wav / "._03a01Fa.wav").write_bytes(b"resource fork")
    (root / "silb" / "13a01Wb.silb").write_bytes(b"")
    (root / "silb" / "03a05Wa.silb").write_bytes("0.080080\tStück\n".encode("latin-1"))
    lines = ["Nr.\tSatz\terkannt\tnatuerlich"]
    for number, name in enumerate((*NAMES, "03a02Wz")):
        lines.append(f"{number}\xa0\xa0\t{name}.wav\t85,00\xa0\xa0\t{number}0,00\xa0\xa0")
    (root / "erkennung.txt").write_bytes("\n".join([*lines, "817\tno result", ""]).encode("latin-1"))
    (root / "erklaerung.txt").write_bytes("W = Ärger".encode("latin-1"))
    return root
