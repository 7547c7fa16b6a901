"""Our own manifest: one JSON object per line, one line per utterance."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.utterance import Utterance


class Manifest(Corpus):
    """Utterances from a JSONL manifest; audio paths are relative to the manifest's folder.

    Args:
        path: The manifest.
    """

    def __init__(self, path: str) -> None:
        super().__init__(str(Path(path).parent))
        self.path = Path(path)

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the manifest's lines."""
        yield from read_manifest(self.path)

    def utterances(self) -> list[Utterance]:
        """Read the manifest.

        Raises:
            CorpusError: If the file is missing or a line is not an utterance.
        """
        return read_manifest(self.path)


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read a JSONL manifest.

    Raises:
        CorpusError: If the file is missing or a line is not an utterance; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"no manifest at {path}; write one with `empathy-lightning prepare`")
    utterances = []
    with path.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            try:
                utterance = Utterance.from_dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise CorpusError(f"{path}, line {number}: {error}") from None
            utterance.path = str(path.parent / utterance.path)
            if utterance.response_path is not None:
                utterance.response_path = str(path.parent / utterance.response_path)
            utterances.append(utterance)
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a JSONL manifest under a temporary name, then rename it.

    Args:
        path: Where to write; audio paths below its folder are stored relative to it.
        utterances: What to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")

    def _relative(name: str) -> str:
        full = Path(name).resolve()
        return str(full.relative_to(path.parent.resolve())) if full.is_relative_to(path.parent.resolve()) else str(full)

    with partial.open("w", encoding="utf-8", errors="surrogateescape") as lines:
        for utterance in utterances:
            values = utterance.to_dict()
            values["path"] = _relative(utterance.path)
            if utterance.response_path is not None:
                values["response_path"] = _relative(utterance.response_path)
            lines.write(json.dumps(values, ensure_ascii=False) + "\n")
    partial.replace(path)
