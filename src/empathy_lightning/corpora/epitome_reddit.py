"""EPITOME's Reddit part: posts of people who seek support, replies, and how strongly these show one mechanism.

Pairs of texts without sound. Each mechanism has a CSV file of its own with the columns ``sp_id``, ``rp_id``,
``seeker_post``, ``response_post``, ``level`` (0 none, 1 weak, 2 strong) and ``rationales`` (parts of the response,
separated by ``|``).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode
from empathy_lightning.utterance import Utterance

Mechanism = Literal["emotional_reaction", "interpretation", "exploration"]

_FILES = {
    "emotional_reaction": "emotional-reactions-reddit.csv",
    "interpretation": "interpretations-reddit.csv",
    "exploration": "explorations-reddit.csv",
}
_COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")


class EpitomeReddit(Corpus):
    """Pairs with the level of one mechanism: the post is the transcript, the reply the response.

    No split is published. Here one seeker's post in twenty validates and four in twenty test, by a digest of its id,
    so that replies to one post stay together. Raw labels hold ``mechanism``, ``level`` and ``rationales``.

    Args:
        root: Folder with the CSV files.
        mechanism: Of whose file the pairs are read.
    """

    name = "epitome_reddit"
    title = "EPITOME's Reddit part, posts and replies with levels of empathy"
    source = "https://github.com/behavioral-data/Empathy-Mental-Health"
    access = "clone https://github.com/behavioral-data/Empathy-Mental-Health and give its folder dataset"
    licence = "research use; see the two licence files of the repository"
    citation = "Sharma et al. 2020, EMNLP, arXiv 2009.08441"
    languages = ("en",)
    emotions = {}
    folders = ("dataset", "")

    def __init__(self, root: str, mechanism: Mechanism) -> None:
        super().__init__(root)
        self.mechanism = mechanism

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the mechanism's file."""
        file = folder / _FILES[self.mechanism]
        if not file.is_file():
            raise CorpusError(f"no {file}: {self.access}")
        rows = csv.DictReader(io.StringIO(decode(file, "cp1252"), newline=""))
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise CorpusError(f"{file} has no column {missing[0]}: give the file as it is in the repository")
        for number, row in enumerate(rows, 2):
            fault = _fault(row)
            if fault is None:
                yield self._pair(file, row)
            else:
                self.skip(f"{file}, row {number}", fault)

    def _pair(self, file: Path, row: Mapping[str, str]) -> Utterance:
        return Utterance(
            id=f"{row['sp_id']}-{row['rp_id']}",
            corpus=self.name,
            path=str(file),
            transcript=row["seeker_post"].strip(),
            language="en",
            session=row["sp_id"],
            split=_split(row["sp_id"]),
            response=row["response_post"].strip(),
            raw_labels={
                "mechanism": self.mechanism,
                "level": row["level"].strip(),
                "rationales": (row["rationales"] or "").strip(),
            },
        )


def _fault(row: Mapping[str, str | None]) -> str | None:
    """Why a row is no pair; None if it is one."""
    for name in _COLUMNS[:-1]:
        if not (row[name] or "").strip():
            return f"no {name}"
    if (row["level"] or "").strip() not in ("0", "1", "2"):
        return f"level {row['level']!r} is none of 0, 1 and 2"
    return None


def _split(post: str) -> str:
    draw = hashlib.sha256(post.encode()).digest()[0] % 20
    return {0: "validation", 1: "test", 2: "test", 3: "test", 4: "test"}.get(draw, "train")
