"""MAFW: clips of films, series and shows from several countries, eleven single emotions.

The lists of one of five official folds name a clip and its emotion per line
(``00001.mp4 anger``). soundfile does not decode mp4: a WAV file of the same stem, anywhere
below the folder, is taken instead. Clips with several emotions only are not in these lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, Kind, decode
from empathy_lightning.utterance import Utterance


class MAFW(Corpus):
    """Utterances of MAFW's single-emotion set, split by one of its five folds.

    Args:
        root: Folder that holds ``data`` and ``Train & Test Set``.
        fold: Which fold, 1 to 5.
    """

    name = "mafw"
    title = "MAFW, film and television clips in several languages, single emotions"
    source = "https://mafw-database.github.io/MAFW/"
    access = "sign the agreement at https://mafw-database.github.io/MAFW/, unpack it there and extract the clips' sound as WAV"  # noqa: E501
    licence = "non-commercial research, signed agreement"
    citation = "Liu et al. 2022, MAFW: a large-scale, multi-modal, compound affective database, ACM Multimedia"
    languages = ("mul",)
    emotions = {
        "anger": "angry", "disgust": "disgust", "fear": "fearful", "happiness": "happy", "neutral": "neutral",
        "sadness": "sad", "surprise": "surprised", "contempt": "contempt", "anxiety": "anxious",
        "helplessness": "other", "disappointment": "other",
    }  # fmt: skip
    counts = {
        "angry": 1390, "disgust": 639, "fearful": 625, "happy": 1242, "neutral": 1138, "sad": 1470,
        "surprised": 1072, "contempt": 236, "anxious": 916, "other": 444,
    }  # fmt: skip
    folders = ("MAFW", "")
    unconfirmed = (
        "the layout and the counts are those of public code and notes, not of files seen; languages are unknown"
    )

    def __init__(self, root: str, fold: int = 1) -> None:
        super().__init__(root)
        self.fold = fold

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Join the fold's lists with the clips."""
        wanted = ("single", "no_caption", f"set_{self.fold}")
        tables = [path for path in self.files(folder, "train.txt", "test.txt") if path.parts[-4:-1] == wanted]
        if not tables:
            raise CorpusError(f"no single/no_caption/set_{self.fold} below {folder}; {self.access}")
        found = self.audio(folder, ".mp4", ".wav", ".flac")
        files = {path.stem: path for path in sorted(found, key=lambda path: path.suffix.lower() != ".mp4")}
        for split in ("train", "test"):
            table = tables[0].with_name(f"{split}.txt")
            lines = decode(table, "gb18030").splitlines() if table.is_file() else []
            for line in filter(str.strip, lines):
                clip, _, emotion = line.strip().partition(" ")
                path = files.pop(Path(clip).stem, None)
                if path is None or not emotion:
                    self.skip(table, f"line {line!r} has no clip, or no emotion")
                    continue
                yield Utterance(
                    id=path.stem,
                    corpus=self.name,
                    path=str(path),
                    split=split,
                    emotion=self.emotion(emotion.strip(), path),
                    raw_labels={"emotion": emotion.strip()},
                )
        for path in files.values():
            self.skip(path, "in no list of single emotions", Kind.ASKED)
