"""Write a fake CREMA-D checkout in the official layout, quirks included."""

from pathlib import Path

import numpy as np
import soundfile

NOISE = 0.05 * np.random.default_rng(0).standard_normal(1600)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 65000\n"
TABLE = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'


def write(root, pulled=True):
    """Two actors; an old name, a file without sound, a pointer, and the other media."""
    root = Path(root) / "CREMA-D"
    for folder in ("AudioWAV", "AudioMP3", "VideoFlash", "processedResults"):
        (root / folder).mkdir(parents=True)
    names = [f"{actor}_DFA_{emotion}_XX" for actor in (1001, 1091) for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU")]
    names += ["1001_IEO_SAD_LO", "1001_IEO_SAD_MD", "1001_IEO_SAD_HI", "1040_ITH_SAD_X", "1076_MTI_SAD_XX"]
    for name in names:
        path = root / "AudioWAV" / f"{name}.wav"
        if pulled:
            soundfile.write(path, NOISE, 16_000)
        else:
            path.write_bytes(POINTER)
    (root / "AudioWAV" / "1002_DFA_ANG_XX.wav").write_bytes(POINTER)
    (root / "AudioWAV" / "1001_IEO_BOR_LO.wav").write_bytes(b"an emotion that the corpus does not have")
    (root / "AudioWAV" / "._1001_DFA_ANG_XX.wav").write_bytes(b"resource fork")
    (root / "AudioWAV" / "README.wav").write_bytes(b"not a name")
    (root / "AudioMP3" / "1001_DFA_ANG_XX.mp3").write_bytes(POINTER)
    (root / "VideoFlash" / "1001_DFA_ANG_XX.flv").write_bytes(POINTER)
    (root / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,44,"Male","Caucasian","Not Hispanic"\n'
    )
    (root / "processedResults" / "summaryTable.csv").write_text(
        f'{TABLE}"7","1001_IEO_SAD_LO","N:S","55:61.5","S","70","S","66.1"\n"8"\n'
    )
    (root / "processedResults" / "tabulatedVotes.csv").write_text(
        '"","A","D","F","H","N","S","fileName","numResponses","agreement"\n'
        '"100007",0,0,1,0,4,5,"1001_IEO_SAD_LO",10,0.5\n"200007",0,0,0,0,0,9,"1001_IEO_SAD_LO",9,1\n'
        '"300007",0,0,0,0,1,9,"1001_IEO_SAD_LO",10,0.9\n'
    )
    return root.parent
