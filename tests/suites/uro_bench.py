"""Write a few lines of URO-Bench's sets on emotion, and of one that is not, as in its archive."""

import json
from pathlib import Path

from tests.corpora.noise import noise

SETS = ("UnderEmotion-en", "UnderEmotion-zh", "GenEmotion-en", "AlpacaEval")


def write(root, odd=False):
    root = Path(root)
    for name in SETS:
        home = root / "URO-Bench-data" / "pro" / name
        lines = []
        for number in range(2):
            noise(home / "wavs" / f"{number}.wav")
            record = {
                "id": number, "source_wav": f"./wavs/{number}.wav", "source_text": f"I failed {number}.",
                "target_text": ["I'm sorry.", "That hurts."] if number else "I'm sorry.",
            }  # fmt: skip
            if name.startswith("Under"):
                record["emotion"] = "sadness" if number else "hopeful"
            lines.append(json.dumps(record))
        if odd:
            lines.append(json.dumps({"id": 9, "source_wav": "./wavs/9.wav", "source_text": "?", "target_text": "!"}))
        (home / "test.jsonl").write_text("\n".join(lines))
    return root
