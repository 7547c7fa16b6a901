"""Write a fake SAVEE: a folder per speaker, or flat names in the two spellings of its copies."""

from pathlib import Path

from tests.corpora.noise import hidden, noise


def write(root, odd=False, pattern="AudioData/{}/{}.wav"):
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in (1, 2):
                noise(Path(root) / pattern.format(speaker, f"{emotion}{number:02d}"), 44_100)
    (Path(root) / "AudioData").mkdir(exist_ok=True)
    hidden(Path(root) / "AudioData", "a01.wav")
    if odd:
        noise(Path(root) / "AudioData" / "KL" / "s01.wav")
        noise(Path(root) / "AudioData" / "XX" / "a01.wav")
    return Path(root)
