"""Write a fake SUBESCO: flat, speaker numbers that repeat across genders, mixed rates."""

from pathlib import Path

from tests.corpora.noise import hidden, noise


def write(root, odd=False):
    root = Path(root)
    for speaker, rate in (("F_01_OISHI", 44_100), ("M_01_NIPUN", 48_000)):
        for emotion in ("ANGRY", "DISGUST", "FEAR", "HAPPY", "NEUTRAL", "SAD", "SURPRISE"):
            for sentence, take in ((1, 1), (10, 5)):
                noise(root / f"{speaker}_S_{sentence}_{emotion}_{take}.wav", rate)
    hidden(root, "F_01_OISHI_S_1_ANGRY_1.wav")
    if odd:
        noise(root / "F_01_OISHI_S_1_BORED_1.wav")
        noise(root / "F_01_OISHI.wav")
    return root
