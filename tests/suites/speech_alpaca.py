"""Write a fake SpeechAlpaca: its audio is named as on another machine."""

import json
from pathlib import Path

from tests.corpora.noise import noise

LINES = (
    ("00003-en-US-JasonNeural-cheerful", "Come up with a catchy birthday message for a friend.", "cheerful"),
    ("00392-en-US-NancyNeural-angry", "What type of error will occur if a program is not working?", "angry"),
    ("00411-en-US-AriaNeural-sad", "Name a colour.", "sad"),
)


def write(root, odd=False):
    root = Path(root)
    lines = []
    for stem, text, emotion in LINES:
        noise(root / "audios" / f"{stem}.wav")
        record = {"audio": f"/dataset/SpeechAlpacaEval/audios/{stem}.wav", "text": text, "emotion": emotion}
        lines.append(json.dumps(record))
    if odd:
        noise(root / "audios" / "00500-x.wav")
        lines.append(json.dumps({"audio": "/dataset/audios/00500-x.wav", "text": "Hm.", "emotion": "grumpy"}))
        lines += [json.dumps({"audio": "/dataset/audios/gone.wav", "text": "?", "emotion": "sad"}), "not json", "[1]"]
    (root / "test_alpaca.jsonl").write_text("\n".join(lines))
    return root
