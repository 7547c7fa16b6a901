"""Recordings of replies that are there, in the place of an engine that says them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from empathy_lightning.errors import InputError
from empathy_lightning.utterance import Utterance


@dataclass
class Recordings:
    """Recordings that are there; they stay where they are. Give ``files`` or ``column``.

    Attributes:
        files: Where a reply's recording lies, with ``{corpus}``, ``{id}`` and ``{style}``.
        column: Field of the manifest that names it, ``response_path`` or ``path``.
        styles: Names of the styles in which there are recordings.
    """

    files: str | None = None
    column: str | None = None
    styles: Collection[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.files is None) == (self.column is None):
            raise InputError("recordings: give files (a pattern such as studio/{style}/{id}.wav) or column, not both")
        if self.column not in (None, "path", "response_path"):
            raise InputError(f"recordings: column is path or response_path, not {self.column}")
        if self.files is not None:
            self._file("", "", "")

    def find(self, utterance: Utterance, style: str) -> str | None:
        """The recording of a reply in a style, whether it is there or not; None where the manifest names none."""
        if self.files is not None:
            return self._file(utterance.corpus, utterance.id, style)
        found: str | None = getattr(utterance, str(self.column))
        return found

    def _file(self, corpus: str, id: str, style: str) -> str:
        try:
            return str(self.files).format(corpus=corpus, id=id, style=style)
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"recordings: files may hold {{corpus}}, {{id}} and {{style}}, not {error}") from None

    def identity(self) -> dict[str, str]:
        """What each reply records."""
        return {"engine": "recordings", "version": "", "voice": self.files or str(self.column)}
