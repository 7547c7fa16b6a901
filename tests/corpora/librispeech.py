"""Write a fake LibriSpeech with four subsets."""

from pathlib import Path

from tests.corpora.noise import hidden, noise

SUBSETS = {"train-clean-100": "103", "train-other-500": "20", "dev-clean": "84", "test-other": "367"}


def write(root, odd=False):
    top = Path(root) / "LibriSpeech"
    for subset, speaker in SUBSETS.items():
        folder = top / subset / speaker / "1240"
        lines = []
        for number in range(2):
            noise(folder / f"{speaker}-1240-{number:04d}.flac")
            lines.append(f"{speaker}-1240-{number:04d} IT'S A FAKE SENTENCE")
        if odd and subset == "dev-clean":
            noise(folder / "84-1240-0005.flac")
            noise(folder / "84-1240-0006.flac")
            lines += ["84-1240-0004 NO AUDIO", "84-1240-0005", ""]
        (folder / f"{speaker}-1240.trans.txt").write_text("\n".join(lines) + "\n")
        hidden(folder, f"{speaker}-1240.trans.txt")
    (top / "SPEAKERS.TXT").write_text("; ID |SEX| SUBSET | MINUTES | NAME\n")
    return Path(root)
