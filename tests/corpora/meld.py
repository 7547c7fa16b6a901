"""Write a fake MELD in the official layout, quirks included."""

from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(4800)
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
MEDIA = {"train": "train/train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


def row(number, emotion, dialogue, utterance, speaker="Anna"):
    return (
        f'{number},"Well, it\u2019s late.",{speaker},{emotion},positive,{dialogue},{utterance},8,2,'
        '"00:01:02,345","00:01:04,012"'
    )


def write(root, extracted=True):
    """Three splits that all have a dialogue 0; the sound lies beside the videos if it was extracted."""
    root = Path(root) / "MELD.Raw"
    rows = {
        "train": [row(17 + 2 * index, emotion, 0, index) for index, emotion in enumerate(EMOTIONS)],
        "dev": [row(1, "joy", 0, 0, "The Interviewer"), row(2, "joy", 110, 7)],
        "test": [row(1, "fear", 0, 0, "Both"), row(2, "bliss", 0, 1)],
    }
    for part, folder in MEDIA.items():
        (root / folder).mkdir(parents=True)
        names = [f"dia{line.split(',')[-8]}_utt{line.split(',')[-7]}" for line in rows[part]]
        for name in names:
            if name != "dia110_utt7":
                _clip(root / folder / name, extracted)
    _clip(root / MEDIA["test"] / "final_videos_testdia0_utt0", extracted)
    _clip(root / MEDIA["train"] / "dia99_utt0", extracted)
    (root / MEDIA["test"] / "._dia0_utt0.mp4").write_bytes(b"resource fork")
    _csv(root / "train" / "train_sent_emo.csv", [HEADER, *rows["train"], "18,A row that ends early"], "utf-8")
    _csv(root / "dev_sent_emo.csv", [HEADER, *rows["dev"]], "cp1252")
    text = [line.replace("\u2019", "\x92") for line in rows["test"]]
    _csv(root / "test_sent_emo.csv", [HEADER, *text], "utf-8")
    return root.parent


def _csv(path, lines, encoding):
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode(encoding))


def _clip(path, extracted):
    path.with_suffix(".mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(300))
    if extracted:
        soundfile.write(path.with_suffix(".wav"), NOISE, 48_000)
