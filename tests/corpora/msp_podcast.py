"""Write a fake MSP-Podcast in the layouts of its releases, quirks included."""

import csv
import json
from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(1600)
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
ROWS = (
    ("MSP-PODCAST_0042_0017.wav", "A", "5.4", "2.2", "5.0", "311", "Female", "Train"),
    ("MSP-PODCAST_0042_0018.wav", "X", "4.166667", "3.5", "4.333333", "Unknown", "Unknown", "Development"),
    ("MSP-PODCAST_0042_0019.wav", "U", "7.0", "1.0", "4.0", "12", "Male", "Validation"),
    ("MSP-PODCAST_1023_0235.wav", "C", "4.0", "4.0", "4.0", "13", "Male", "Test1"),
    ("MSP-PODCAST_2001_0001_0002.wav", "O", "4.0", "4.0", "4.0", "14", "Male", "Test2"),
    ("MSP-PODCAST_0042_0020.wav", "Q", "7.5", "oops", "4.0", "15", "Male", "Train"),
    ("MSP-PODCAST_0042_0021.wav", "N", "4.0", "4.0", "4.0", "16", "Male", "Train"),
)
RATINGS = (
    ("MSP-PODCAST_0042_0017.wav", "WORKER00000007", "Angry", "Angry,Frustrated"),
    ("MSP-PODCAST_0042_0017.wav", "WORKER00000008", "Angry", ""),
    ("MSP-PODCAST_0042_0017.wav", "WORKER00000009", "Other-fed up, tired", "Dissapointed"),
    ("MSP-PODCAST_0042_0017.wav", "WORKER00000010", "Contempt", "Contempt"),
    ("MSP-PODCAST_0042_0018.wav", "WORKER00000007", "Surprise", "Surprise"),
    ("MSP-PODCAST_0042_0018.wav", "WORKER00000008", "Fear", "Fear,Sad"),
    ("MSP-PODCAST_0042_0099.wav", "WORKER00000007", "Neutral", "Neutral"),
    ("MSP-PODCAST_0042_0020.wav", "WORKER00000011", "", ""),
)
ATTRIBUTES = ("6.0", "2.0", "5.0")


def detailed(path, form):
    """The raters' labels in the form of a release: its columns, or ``detail``; JSON by the suffix."""
    if path.suffix == ".json":
        names = dict.fromkeys(row[0] for row in RATINGS)
        keys = ("EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
        ratings = {n: {r[1]: dict(zip(keys, (*r[2:], *ATTRIBUTES), strict=True)) for r in RATINGS if r[0] == n}
                   for n in names}  # fmt: skip
        path.write_text(json.dumps(ratings))
        return
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        if form == "detail":
            rows.writerow(("FileName", "EmoDetail"))
            for name, worker, major, second in RATINGS:
                rows.writerow((name, f"{worker}; {major}; {second}; A:6.000000; V:2.000000; D:5.000000;"))
        else:
            rows.writerow(("FileName", form, "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom"))
            rows.writerows((*row, *ATTRIBUTES) for row in RATINGS)


def write(root, folder="MSP-PODCAST-Publish-1.8", labels="Labels/labels_concensus.csv", audio="Audio", form="detail"):
    """One stereo file at 44.1 kHz, one row without audio, one file without a row, one broken row, one empty rating."""
    root = Path(root) / folder
    (root / audio).mkdir(parents=True)
    (root / "Transcripts").mkdir()
    path = root / labels
    path.parent.mkdir()
    if path.suffix == ".json":
        path.write_text(json.dumps({row[0]: dict(zip(COLUMNS[1:], row[1:], strict=True)) for row in ROWS}))
    else:
        lines = [",".join(row) for row in (COLUMNS, *ROWS)] + ["MSP-PODCAST_0042_0022.wav,A"]
        path.write_bytes("\r\n".join(lines).encode())
    (path.parent / "._labels_consensus.csv").write_bytes(b"\x00\x05\x16\x07")
    detailed(path.with_name(f"labels_detailed{path.suffix}"), form)
    names = [row[0] for row in ROWS[:-1]] + ["MSP-PODCAST_0042_0099.wav", "MSP-PODCAST_test3_0001.wav"]
    for name in names:
        stereo = name == "MSP-PODCAST_1023_0235.wav"
        samples = np.stack([NOISE, NOISE], 1) if stereo else NOISE
        soundfile.write(root / audio / name, samples, 44_100 if stereo else 16_000)
    (root / "Transcripts" / "MSP-PODCAST_0042_0017.txt").write_text("Well, that is that.\n")
    return root.parent
