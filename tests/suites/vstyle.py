"""Write lines in the form of VStyle's results, of empathy and of another ability."""

import json
from pathlib import Path

from tests.corpora.noise import noise

LINES = (
    ("734", "empathy/joy_excitement", "下个月我要去欧洲旅行了"),
    ("735", "empathy/anger", "They lost my luggage again."),
    ("736", "empathy/sadness_disappointment", "My cat died."),
    ("737", "empathy/anxiety_fear", "The exam is tomorrow."),
    ("12", "acoustic_attributes/speed", "Say it fast."),
)


def write(root, odd=False):
    root = Path(root)
    lines = []
    for number, ability, text in LINES:
        path = f"audio/{ability}/{number}.wav"
        noise(root / path)
        record = {
            "id": f"{number}_a", "instruct_id": number, "model_name": "some", "ability": ability,
            "instruct_text": text, "response_audio_path": "gone.wav", "instruction_audio_path": path,
        }  # fmt: skip
        lines.append(json.dumps(record, ensure_ascii=False))
    if odd:
        lost = {"instruct_id": "1", "ability": "empathy/anger", "instruct_text": "Hm."}
        lines.append(json.dumps(lost))
    (root / "en_zh.jsonl").write_text("\n".join(lines))
    return root
