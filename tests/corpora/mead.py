"""Write a fake MEAD: m4a files, neutral at one level only, a file converted to WAV, videos beside."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")


def write(root, odd=False):
    root = Path(root)
    for speaker in ("M003", "W019"):
        for emotion in EMOTIONS:
            for level in (1,) if emotion == "neutral" else (1, 2, 3):
                for number in (1, 20):
                    noise(root / speaker / "audio" / emotion / f"level_{level}" / f"{number:03d}.m4a")
    noise(root / "M003" / "audio" / "sad" / "level_1" / "001.wav", 48_000)
    noise(root / "M003" / "video" / "front" / "sad" / "level_1" / "001.mp4")
    hidden(root / "M003" / "audio" / "sad" / "level_1", "001.m4a")
    if odd:
        noise(root / "M003" / "audio" / "bored" / "level_1" / "001.m4a")
        noise(root / "M003" / "001.m4a")
    return root
