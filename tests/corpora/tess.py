"""Write a fake TESS: Kaggle's nested folder with everything twice, folder words in several forms, odd rates."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

FOLDERS = {
    "OAF": {"angry": "OAF_angry", "disgust": "OAF_disgust", "fear": "OAF_Fear", "happy": "OAF_happy",
            "neutral": "OAF_neutral", "ps": "OAF_Pleasant_surprise", "sad": "OAF_Sad"},
    "YAF": {"angry": "YAF_angry", "disgust": "YAF_disgust", "fear": "YAF_fear", "happy": "YAF_happy",
            "neutral": "YAF_neutral", "ps": "YAF_pleasant_surprised", "sad": "YAF_sad"},
}  # fmt: skip


def write(root, odd=False):
    top = Path(root) / "TESS Toronto emotional speech set data"
    for folder in (top, top / top.name):
        for speaker, words in FOLDERS.items():
            for emotion, word in words.items():
                for said in ("back", "bite"):
                    start = "OA" if (speaker, emotion, said) == ("OAF", "neutral", "bite") else speaker
                    rate = 96_000 if (speaker, emotion, said) == ("YAF", "sad", "back") else 24_414
                    noise(folder / word / f"{start}_{said}_{emotion}.wav", rate)
    hidden(top / "YAF_sad", "YAF_back_sad.wav")
    if odd:
        noise(top / "YAF_sad" / "YAF_back_bored.wav")
        noise(top / "YAF_sad" / "back.wav")
    return Path(root)
