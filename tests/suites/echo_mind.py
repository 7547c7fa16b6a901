"""Write a fake EchoMind: scripts in three deliveries, and multiple choice on the same recordings."""

import json
from pathlib import Path

from tests.corpora.noise import noise


def write(root, odd=False):
    home = Path(root) / "dataset" / "data_synthesis"
    scripts = []
    for case, spoken in (("id_1", "happy-toned expressive voice"), ("id_2", "male")):
        script = {"case_id": case, "spoken_info": spoken, "topic": "school", "speak_A": "I got the results."}
        for delivery in ("target", "neutral", "alternative") if case == "id_1" else ("target", "alternative"):
            name = f"{delivery}/{case}_{delivery}.wav"
            noise(home / "audio" / name)
            script[f"{delivery}_audio_info"] = {f"{delivery}_input_audio_file": name}
        scripts.append(script)
    (home / "script_info_synthesis.json").write_text(json.dumps(scripts))
    choice = {
        "question_id": "q1", "audio_dir": "target", "audio_name": "id_1_target.wav",
        "question": "How does the speaker sound?",
        "options_text": "A. sad\nB. happy\nC. angry\nD. tired", "answer": "B",
    }  # fmt: skip
    reasoning = [{**choice, "answer": "happy"}]
    if odd:
        reasoning += [{**choice, "question_id": "q2", "audio_name": "gone.wav"}, {**choice, "answer": "E"}]
    for name, records in (("understanding", [choice]), ("reasoning", reasoning)):
        (home / "MCQ").mkdir(exist_ok=True)
        (home / "MCQ" / f"{name}.json").write_text(json.dumps(records))
    return Path(root)
