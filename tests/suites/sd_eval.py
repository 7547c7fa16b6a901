"""Write a fake SD-Eval: its checkout with the audio folder that its README describes."""

import json
from pathlib import Path

from tests.corpora.noise import noise

WORDS = "Kids are talking by the door"
REPLIES = {
    "sad": "Are they too loud for you? That must hurt when you are down.",
    "happy": "How lovely, their laughter must make your day!",
    "angry": "That noise is really annoying, shall I ask them to stop?",
}
FILES = {
    "RAVDESS-Speech/Actor_01/03-01-04-02-01-01-01.wav": "sad",
    "RAVDESS-Speech/Actor_01/03-01-03-02-01-01-01.wav": "happy",
    "RAVDESS-Speech/Actor_02/03-01-05-02-01-01-02.wav": "angry",
    "MEAD/MEAD_wav/W009/audio/sad/level_1/001.wav": "sad",
    "MEAD/MEAD_wav/W009/audio/angry/level_1/001.wav": "angry",
    "JL_Corpus/female1_happy_10a_1.wav": "happy",
}


def write(root, odd=False):
    root = Path(root)
    records = []
    for path, emotion in FILES.items():
        noise(root / "audio_data" / path)
        targets = [{"reply": REPLIES[emotion], "reply_emotion": "neutral"}, {"reply": "Oh?", "reply_emotion": "joy"}]
        records.append(
            {
                "wav_path": path,
                "transcript": WORDS,
                "utt_id": Path(path).stem,
                "target": targets,
                "info": emotion,
                "dataset_name": path.split("/")[0],
            }
        )
    if odd:
        records.append({**records[0], "wav_path": "RAVDESS-Speech/Actor_03/gone.wav"})
        noise(root / "audio_data" / "JL_Corpus" / "male1_odd_1a_1.wav")
        records.append({**records[0], "wav_path": "JL_Corpus/male1_odd_1a_1.wav", "info": "odd"})
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "test-emo.json").write_text(json.dumps(records))
    (root / "data" / "test-age.json").write_text("[]")
    return root
