"""The folds of an EmoBox checkout as a protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from empathy_lightning.corpora.corpus import CorpusError, decode
from empathy_lightning.data.protocols import Protocol
from empathy_lightning.utterance import Utterance


class EmoBoxFolds(Protocol):
    """The folds of an EmoBox checkout, applied to utterances of our own parsers.

    Args:
        folder: ``data/<corpus>`` of the checkout.
        fold: Counted from 1, as there.
        emotions: As in :class:`Protocol`.
        merge: As in :class:`Protocol`.
    """

    def __init__(
        self, folder: str, fold: int = 1, emotions: Sequence[str] | None = None, merge: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(emotions, merge, "Ma et al. 2024, EmoBox, Interspeech")
        self.folder = folder
        self.fold = fold

    def splits(self, utterances: Sequence[Utterance]) -> list[str | None]:
        """By the stem of the audio file and its folder's name, which tell it in all of EmoBox's corpora.

        Raises:
            CorpusError: If the fold's lists are not there.
        """
        folder = Path(self.folder) / f"fold_{self.fold}"
        lists = {s: sorted(folder.glob(f"*_{n}_fold_{self.fold}.jsonl")) for s, n in _EMOBOX.items()}
        if not lists["train"] or not lists["test"]:
            raise CorpusError(f"no EmoBox fold {self.fold} in {self.folder}; check out github.com/emo-box/EmoBox")
        split_of: dict[tuple[str, str], str] = {}
        for split, files in lists.items():
            for file in files:
                split_of |= dict.fromkeys(_listed(file), split)
        return [split_of.get((Path(u.path).parent.name, Path(u.path).stem)) for u in utterances]


def _listed(file: Path) -> list[tuple[str, str]]:
    """Folder and stem of the files that a list of EmoBox names."""
    names = []
    for number, line in enumerate(decode(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            path = Path(json.loads(line)["wav"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{file}, line {number}: not a row of EmoBox with wav ({error!r})") from None
        names.append((path.parent.name, path.stem))
    return names


_EMOBOX = {"train": "train", "validation": "valid", "test": "test"}
