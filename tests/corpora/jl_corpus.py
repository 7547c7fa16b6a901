"""Write a fake JL-corpus: blanks and parentheses in the path, a sentence beside each file."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

EMOTIONS = (
    "angry", "sad", "neutral", "happy", "excited", "anxious", "apologetic", "assertive", "concerned", "encouraging",
)  # fmt: skip


def write(root, odd=False):
    folder = Path(root) / "Raw JL corpus (unchecked and unannotated)" / "JL(wav+txt)"
    for speaker in ("female1", "female2", "male1", "male2"):
        for emotion in EMOTIONS:
            for sentence in ("10a", "10b"):
                stem = f"{speaker}_{emotion}_{sentence}_1"
                noise(folder / f"{stem}.wav", 44_100)
                (folder / f"{stem}.txt").write_bytes(b"Tom\x92s bear is here.\r\n")
    hidden(folder, "male1_sad_10a_1.wav")
    hidden(folder, "male1_sad_10a_1.txt")
    if odd:
        noise(folder / "male1_bored_10a_1.wav")
        noise(folder / "male1_sad.wav")
        (folder / "male2_sad_1a_1.txt").write_text("No audio.")
    return Path(root)
