"""nEMO: nine actors say ninety Polish sentences in six emotions.

``data.tsv`` holds a row per file; speaker ids have eight leading blanks. Names such as
``WR0_surprised_64.wav`` mix nouns and adjectives.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode
from empathy_lightning.utterance import Utterance


class NEMO(Corpus):
    """Utterances of nEMO, without splits.

    Args:
        root: Folder that holds ``nEMO``, or ``data.tsv`` and ``samples``.
    """

    name = "nemo"
    title = "nEMO, acted Polish, ninety sentences, 9 actors"
    source = "https://github.com/amu-cai/nEMO"
    access = "clone https://github.com/amu-cai/nEMO"
    licence = "CC BY-NC-SA 4.0"
    citation = "Christop 2024, LREC-COLING"
    languages = ("pl",)
    emotions = {
        "anger": "angry", "fear": "fearful", "happiness": "happy", "neutral": "neutral", "sadness": "sad",
        "surprised": "surprised",
    }  # fmt: skip
    folders = ("nEMO", "")

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the rows of ``data.tsv`` and match them to audio files."""
        rows = self._rows(folder / "data.tsv")
        seen = set()
        for path in self.audio(folder):
            row = rows.get(path.stem)
            if row is None:
                self.skip(path, "no row in data.tsv")
                continue
            seen.add(path.stem)
            yield Utterance(
                id=path.stem,
                corpus=self.name,
                path=str(path),
                transcript=row["raw_text"] or None,
                language="pl",
                speaker=row["speaker_id"] or None,
                emotion=self.emotion(row["emotion"], path),
                raw_labels={"emotion": row["emotion"], "gender": row["gender"], "age": row["age"]},
            )
        for stem in rows:
            if stem not in seen:
                self.skip(stem, "a row without audio")

    def _rows(self, path: Path) -> dict[str, dict[str, str]]:
        if not path.is_file():
            raise CorpusError(f"no data.tsv in {path.parent}; {self.access}")
        rows = {}
        for row in csv.DictReader(io.StringIO(decode(path)), delimiter="\t", quoting=csv.QUOTE_NONE):
            if None in row or None in row.values() or not row["file_id"]:
                self.skip(path, f"not a row of labels: {list(row.values())}")
            else:
                rows[Path(row["file_id"]).stem] = {key: value.strip() for key, value in row.items()}
        return rows
