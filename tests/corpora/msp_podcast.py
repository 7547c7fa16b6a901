"""Write a fake MSP-Podcast in the layouts of its releases, quirks included."""

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


def write(root, folder="MSP-PODCAST-Publish-1.8", labels="Labels/labels_concensus.csv", audio="Audio"):
    """One stereo file at 44.1 kHz, one row without audio, one file without a row, one broken row."""
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
    (path.parent / "labels_detailed.csv").write_text(
        'FileName,EmoDetail\nMSP-PODCAST_0042_0017.wav,"WORKER1; Angry; Angry,Frustrated; A:6.0; V:2.0; D:5.0;"\n'
    )
    names = [row[0] for row in ROWS[:-1]] + ["MSP-PODCAST_0042_0099.wav", "MSP-PODCAST_test3_0001.wav"]
    for name in names:
        stereo = name == "MSP-PODCAST_1023_0235.wav"
        samples = np.stack([NOISE, NOISE], 1) if stereo else NOISE
        soundfile.write(root / audio / name, samples, 44_100 if stereo else 16_000)
    (root / "Transcripts" / "MSP-PODCAST_0042_0017.txt").write_text("Well, that is that.\n")
    return root.parent
