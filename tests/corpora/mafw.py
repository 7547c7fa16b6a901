"""Write a fake MAFW: clips, sound extracted for one of them, and the lists of two folds."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

EMOTIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt", "anxiety", "helplessness",
    "disappointment",
)  # fmt: skip


def write(root, odd=False):
    root = Path(root)
    for number in range(len(EMOTIONS)):
        noise(root / "data" / "clips" / f"{number:05d}.mp4")
    noise(root / "data" / "audio" / "00003.wav", 44_100)
    hidden(root / "data" / "clips", "00003.mp4")
    for fold in (1, 2):
        for view in ("single", "compound"):
            folder = root / "Train & Test Set" / view / "no_caption" / f"set_{fold}"
            folder.mkdir(parents=True)
            lines = [f"{number:05d}.mp4 {emotion}" for number, emotion in enumerate(EMOTIONS)]
            if view == "compound":
                lines = [f"{line}_sadness" for line in lines]
            if odd:
                lines += ["00090.mp4 boredom", "00091.mp4 anger", "broken"]
            cut = 8 if fold == 1 else 3
            (folder / "train.txt").write_text("\n".join(lines[:cut]) + "\n")
            (folder / "test.txt").write_text("\n".join(lines[cut:]) + "\n")
    if odd:
        noise(root / "data" / "clips" / "00090.mp4")
        noise(root / "data" / "clips" / "00092.mp4")
    return root
