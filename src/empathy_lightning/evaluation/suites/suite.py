"""What every suite offers: facts about it, and its questions as utterances."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from empathy_lightning.corpora.corpus import Corpus
from empathy_lightning.utterance import Utterance

FOLLOWS = "follows"
"""Raw label of a question of a later turn: id of the question before it, after whose reply it is asked."""


class Suite(Corpus):
    """Questions that several systems are asked, read as a corpus is, whose utterances know their suite.

    To add one, subclass it, state the facts of :class:`.Corpus` and those below, and write :meth:`read`; a file of
    this folder is found by itself. A question without a prompt is asked with the bot's own.

    Attributes:
        counts: Published number of questions by ability; empty where none is published.
        scoring: How its authors score replies, in a line.
        measures: Measures of :mod:`empathy_lightning.evaluation.measures` that suit it, by name.
        criteria: What a judge may be asked of its replies, by the names of the criteria's files.
    """

    emotions: ClassVar[Mapping[str, str]] = {}
    scoring: ClassVar[str]
    measures: ClassVar[tuple[str, ...]] = ()
    criteria: ClassVar[tuple[str, ...]] = ()

    def utterances(self) -> list[Utterance]:
        """All questions, for the test split; ``skipped`` then says what was left out and why.

        Raises:
            CorpusError: If the suite is not where it should be or holds nothing.
        """
        questions = list(super().utterances())
        for question in questions:
            question.suite = self.name
            question.split = "test"
        return questions


def texts(value: Any) -> list[str]:
    """The texts of a value that is one, a list of them, or something else; blank ones are left out.

    >>> texts(["Paris", " "]), texts("Paris"), texts(None)
    (['Paris'], ['Paris'], [])
    """
    if isinstance(value, str):
        value = [value]
    entries = value if isinstance(value, list) else []
    stripped = [entry.strip() for entry in entries if isinstance(entry, str)]
    return [text for text in stripped if text]


def located(folder: Path, name: Any) -> str | None:
    """The file that a record names, by the longest end of the name that there is below a folder.

    Records often keep the absolute paths of the machine on which they were written.

    Args:
        folder: Of the record.
        name: What the record says.

    Returns:
        None where it names nothing that is there.
    """
    if not isinstance(name, str) or not name.strip():
        return None
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return str(path)
    return None
