"""Write a fake RESD: two spellings of names and folders, mixed rates, dialogues in both splits."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

FILES = (
    "test/neutral_fear_27/27_neutral_fear_n_100", "train/neutral_fear_27/27_neutral_fear_f_090",
    "test/08_sadness_anger/08_sadness_anger a_010", "train/08_sadness_anger/08_sadness_anger s_020",
    "test/11_disgust_anger/11_anger_disgust d_190", "train/enthusiasm_happiness_26/26_enthusiasm_happiness_e_120",
    "train/enthusiasm_happiness_26/26_enthusiasm_happiness_h_040",
)  # fmt: skip


def write(root, odd=False):
    root = Path(root)
    for name in FILES:
        noise(root / f"{name}.wav", 16_000 if " " in name else 44_100)
    hidden(root / "test" / "neutral_fear_27", "27_neutral_fear_n_100.wav")
    if odd:
        noise(root / "test" / "neutral_fear_27" / "27_neutral_fear_x_010.wav")
        noise(root / "test" / "neutral_fear_27" / "27_neutral.wav")
    return root
