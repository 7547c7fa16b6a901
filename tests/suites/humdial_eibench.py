"""Write dialogues in the form of the HumDial challenge, and multiple choice in the form in which it is read."""

import json
from pathlib import Path

from tests.corpora.noise import noise

FEELINGS = ("neutral", "sad", "angry", "sad")


def write(root, odd=False):
    root = Path(root)
    turns = []
    for number, emotion in enumerate(FEELINGS):
        path = f"wav/d1_{number}.wav"
        noise(root / "task3" / path)
        turns.append({"turn_id": number, "text": f"Turn {number}.", "emotion": emotion, "split_audio_file": path})
    calm = {"dialogue_id": "d2", "turns": [{**turn, "emotion": "neutral"} for turn in turns]}
    dialogues = [{"dialogue_id": "d1", "turns": turns}, calm]
    (root / "task3" / "en.jsonl").write_text("\n".join(map(json.dumps, dialogues)))
    noise(root / "task4" / "zh" / "1.wav")
    choice = {
        "id": 1,
        "question": "说话人的情绪是什么",
        "options": ["高兴", "B. 难过"],
        "answer": "B",
        "audio": "1.wav",
    }
    several = {**choice, "id": 2, "audio": ["1.wav", "2.wav"]}
    records = [choice, {**choice, "id": 3, "answer": "D"}, several] if odd else [choice]
    (root / "task4" / "zh" / "conflict.json").write_text(json.dumps(records, ensure_ascii=False))
    (root / "README.json").write_text("{}")
    return root
