"""Write a fake ShEMO: transcripts with a byte order mark and direction marks; F is female and fear."""

from pathlib import Path

from tests.corpora.noise import hidden, noise


def write(root, odd=False):
    root = Path(root)
    texts = root / "transcript" / "final text"
    texts.mkdir(parents=True)
    for folder, speaker in (("male", "M02"), ("female", "F14"), ("female", "F02")):
        for letter in "AFHNSW":
            for take in (1, 9):
                stem = f"{speaker}{letter}{take:02d}"
                noise(root / folder / f"{stem}.wav", 44_100)
                (texts / f"{stem}.ort").write_text("\u200fمن خوبم\u200e\n", encoding="utf-8-sig")
    hidden(root / "male", "M02F01.wav")
    hidden(texts, "M02F01.ort")
    if odd:
        noise(root / "male" / "M02X01.wav")
        noise(root / "male" / "x.wav")
        (texts / "M03A01.ort").write_text("x", encoding="utf-8-sig")
    return root
