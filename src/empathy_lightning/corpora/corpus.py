"""What every corpus offers, and the errors it raises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from empathy_lightning.errors import InputError
from empathy_lightning.utterance import Utterance


class CorpusError(InputError):
    """A corpus that is missing or not in its official layout; the message says what to do."""


class Corpus(ABC):
    """A source of utterances. To add one, write :meth:`utterances` and name the class in YAML."""

    @abstractmethod
    def utterances(self) -> list[Utterance]:
        """All utterances, each with its split.

        Raises:
            CorpusError: If the corpus is not where it should be.
        """


def find_root(root: str | Path, folders: tuple[str, ...], where_to_get: str) -> Path:
    """The first folder of a corpus that exists.

    Args:
        root: Folder given by the user.
        folders: Names under which the corpus is seen in practice, below the root; "" is the root itself.
        where_to_get: Sentence for the error message.

    Raises:
        CorpusError: If none exists.
    """
    looked = [Path(root) / folder for folder in folders]
    for folder in looked:
        if folder.is_dir():
            return folder
    raise CorpusError(f"no corpus at {root} (looked for {', '.join(map(str, looked))}); {where_to_get}")
