"""Write a few lines of URO-Bench's sets on emotion, and of one that is not, as in its archive."""

import json
from pathlib import Path

from tests.corpora.noise import noise

SETS = ("UnderEmotion-en", "UnderEmotion-zh", "GenEmotion-en", "AlpacaEval")
DIALOGUES = "MtBenchEval-en"


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
    dialogues(root / "URO-Bench-data" / "pro" / DIALOGUES, odd)
    return root


def dialogues(home, odd=False):
    """One dialogue of two turns and one of three."""
    lines = []
    for number, count in enumerate((2, 3)):
        turns = []
        for turn in range(count):
            name = f"wavs/{number}_{turn}.wav"
            if not (odd and turn == 2):
                noise(home / name, seconds=0.3 + 0.1 * turn + 0.05 * number)
            turns.append({"round": turn + 1, "source_wav": f"./{name}", "source_text": f"Turn {turn}?",
                          "target_text": f"Reply {turn}."})  # fmt: skip
        lines.append(json.dumps({"id": number, "num_round": count, "dialogue": turns}))
    (home / "test.jsonl").write_text("\n".join(lines))
