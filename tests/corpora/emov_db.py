"""Write a fake EmoV-DB: the folders of both copies, prefixes other than the folders' words, mixed rates."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

FOLDERS = {
    "amused": "Amused", "anger": "Angry", "disgust": "Disgust", "neutral": "Neutral", "sleepiness": "Sleepy",
}  # fmt: skip


def write(root, odd=False, pattern="{}_{}"):
    root = Path(root)
    for speaker in ("bea", "jenie", "josh", "sam"):
        for prefix, word in FOLDERS.items():
            if speaker == "josh" and prefix in ("anger", "disgust"):
                continue
            word = "Disgusted" if (speaker, prefix) == ("sam", "disgust") else word
            for number in (3, 15):
                name = f"{prefix}_1-15_{number:04d}.wav"
                noise(root / pattern.format(speaker, word) / name, 44_100 if speaker == "josh" else 16_000)
    hidden(root, "amused_1-15_0003.wav")
    lines = ['( arctic_a0003 "For the twentieth time that evening." )', '( arctic_b0003 "Not this one." )']
    (root / "cmuarctic.data").write_text("\n".join(lines), encoding="utf-8")
    if odd:
        noise(root / pattern.format("bea", "Amused") / "bored_1-15_0001.wav")
        noise(root / "elsewhere" / "amused_1-15_0003.wav")
    return root
