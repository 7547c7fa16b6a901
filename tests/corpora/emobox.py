"""Write a fake EmoBox checkout in the official layout, quirks included."""

import json
from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(1600)
LABEL_MAPS = {
    "iemocap": {"neu": "Neutral", "hap": "Happy", "ang": "Angry", "sad": "Sad", "exc": "Happy"},
    "emodb": {"anger": "Angry", "boredem": "Boredom", "fear": "Fear", "Neutral": "Neutral"},
    "polish": {"a": "Angry", "n": "Neutral", "s": "Fear"},
    "pavoque": {"angry": "Angry", "poker": "Poker"},
    "meld": {"joy": "Happy"},
    "msppodcast": {"X": "No-agreement"},
}


def row(dataset, name, wav, emotion, **more):
    return {
        "key": f"{dataset}-{name}", "dataset": dataset, "wav": f"downloads/{dataset}/{wav}", "type": "raw",
        "sample_rate": 16000, "num_frame": 1599.9999999999998, "task": "category", "length": 0.1, "emo": emotion,
        "channel": 1, **more,
    }  # fmt: skip


def write(root):
    """Seven corpora, one with two folds, and rows that differ in form."""
    root = Path(root) / "EmoBox"
    for dataset, words in LABEL_MAPS.items():
        (root / "data" / dataset).mkdir(parents=True)
        (root / "data" / dataset / "label_map.json").write_text(json.dumps(words, indent=4))
    turns = [f"Ses0{n}F_impro01_M004" for n in (1, 2)]
    rows = [
        row("iemocap", turn, f"Session{turn[4]}/sentences/wav/{turn[:-5]}/{turn}.wav", emotion)
        for turn, emotion in zip(turns, ("exc", "neu"), strict=True)
    ]
    _lines(root / "data/iemocap/iemocap.jsonl", rows)
    for fold in (1, 2):
        _lines(root / f"data/iemocap/fold_{fold}/iemocap_test_fold_{fold}.jsonl", rows[fold - 1 : fold])
        _lines(root / f"data/iemocap/fold_{fold}/iemocap_train_fold_{fold}.jsonl", rows[2 - fold : 3 - fold])
    cafe = row("emovo", "dis-f1-b1", "D\x82go\x96t/dis-f1-b1.wav", "dis")
    _lines(root / "data/emovo/emovo.jsonl", [cafe])
    polish = [row("polish", name, f"{name}.wav", name) for name in "ans"]
    _lines(root / "data/polish/polish.jsonl", polish)
    emodb = [
        row("emodb", name, f"wav/{name}.wav", emotion) for name, emotion in (("03a", "boredem"), ("03b", "neutral"))
    ]
    _lines(root / "data/emodb/emodb.jsonl", emodb)
    old = {key: value for key, value in emodb[0].items() if key not in ("wav", "emo", "length")}
    _lines(root / "data/emodb/fold_1/emodb_test_fold1.jsonl", [{**old, "audio": emodb[0]["wav"], "label": "boredem"}])
    part = row("pavoque", "a1-poker", "pavoque-poker.flac", "poker", start_time=0.02, end_time=0.08)
    _lines(root / "data/pavoque/pavoque.jsonl", [part])
    clip = row("meld", "dia0_utt0-dev", "dev_splits_complete/dia0_utt0.mp4", "joy", channel=3)
    _lines(root / "data/meld/fold_1/meld_valid_fold_1.jsonl", [clip])
    shares = [row("msppodcast", name, f"{name}.wav", code) for name, code in (("1", "X"), ("2", "Q"), ("3", "X"))]
    _lines(root / "data/msppodcast/msppodcast.jsonl", shares)
    with (root / "data/msppodcast/msppodcast.jsonl").open("a") as file:
        file.write("not json\n[1]\n{}\n")
    for entry in [*rows, cafe, *polish, *emodb, part, clip, *shares[:2]]:
        path = (root / entry["wav"]).with_suffix(".flac" if "pavoque" in entry["wav"] else ".wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, NOISE, 16_000)
    (root / "downloads/savee/KL").mkdir(parents=True)
    soundfile.write(root / "downloads/savee/KL/a07.wav", NOISE, 16_000)
    _lines(
        root / "data/track2/SAVEE_selected_balenced.jsonl",
        [{"wav_filename": "KL/a07.wav", "label": "angry", "speaker": "KL"}],
    )
    return root


def _lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows))
