"""Write a fake M3ED: annotation by series, dialogue and utterance; audio named by letter and utterance."""

import json
from pathlib import Path

from tests.corpora.noise import hidden, noise

EMOTIONS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
SHOWS = {"yueguangbianzouqu": "val", "anjia": "train", "fendou": "test", "unlisted": None}


def turn(speaker, emotion):
    labels = {f"EmoAnnotator{number}": emotion for number in (1, 2, 3)}
    labels |= {"final_mul_emo": f"{emotion},Sad", "final_main_emo": emotion}
    return {
        "StartTime": "00:01:02:10", "EndTime": "00:01:04:00", "Text": "今天 下雨 ", "Speaker": speaker,
        "EmoAnnotation": labels,
    }  # fmt: skip


def write(root, odd=False):
    root = Path(root)
    annotation = {}
    for show in SHOWS:
        dialogue = f"{show}_1"
        info = {"A": {"Name": "安娜", "Age": "mid", "Gender": "F"}, "B": {"Name": "李明", "Age": "old", "Gender": "M"}}
        turns = {f"{dialogue}_{n}": turn("AB"[n % 2], emotion) for n, emotion in enumerate(EMOTIONS, 1)}
        for key, value in turns.items():
            noise(root / "modality_speech" / f"{value['Speaker']}_{key}.wav")
        annotation[show] = {dialogue: {"SpeakerInfo": info, "Dialog": turns}}
    hidden(root / "modality_speech", "A_anjia_1_1.wav")
    if odd:
        extra = {
            "anjia_2_1": turn("A", "Boredom"), "anjia_2_2": turn("A", "Sad"), "anjia_2_3": {"Speaker": "B"},
            "anjia_2_4": "broken",
        }  # fmt: skip
        annotation["anjia"]["anjia_2"] = {"SpeakerInfo": {}, "Dialog": extra}
        for name in ("A_anjia_2_1", "B_anjia_2_3", "A_anjia_9_9"):
            noise(root / "modality_speech" / f"{name}.wav")
    (root / "annotation.json").write_text(json.dumps(annotation, ensure_ascii=False), encoding="utf-8")
    (root / "splitInfo").mkdir()
    for split in ("train", "val", "test"):
        names = [show for show, part in SHOWS.items() if part == split] + ["another"]
        (root / "splitInfo" / f"movie_list_{split}.txt").write_text("\n".join(names))
    return root
