"""Write a fake CASIA: numbers repeat in every folder, and one speaker is written in two ways."""

from pathlib import Path

from tests.corpora.noise import hidden, noise


def write(root, odd=False):
    root = Path(root)
    for speaker in ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"):
        for emotion in ("angry", "fear", "happy", "neutral", "sad", "surprise"):
            for number in (201, 250):
                noise(root / speaker / emotion / f"{number}.wav")
    hidden(root / "wangzhe" / "sad", "201.wav")
    if odd:
        noise(root / "wangzhe" / "bored" / "201.wav")
        noise(root / "201.wav")
    return root
