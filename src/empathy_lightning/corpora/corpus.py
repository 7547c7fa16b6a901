"""What every corpus offers: facts about it, its utterances, and what had to be left out and why."""

from __future__ import annotations

import filecmp
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar, NamedTuple

from empathy_lightning.errors import InputError
from empathy_lightning.faults import Faults
from empathy_lightning.records import checked, columns_of
from empathy_lightning.utterance import Utterance, scale_rating
from empathy_lightning.walk import files_below

_LFS = b"version https://git-lfs"
_ANNEX = b"/annex/objects/"


class CorpusError(InputError):
    """A corpus that is missing or not in its official layout; the message says what to do."""


class Kind(Enum):
    """What it means that a corpus skipped something."""

    LOST = "an utterance is left out that nobody asked to leave out"
    ASKED = "an utterance is left out by the corpus's own design"
    COPY = "an utterance is there already"
    KEPT = "an utterance stays, without its label or transcript"


class Skipped(NamedTuple):
    """What a corpus skipped, a file or a part of one, why, and what that means."""

    path: str
    reason: str
    kind: Kind


class Corpus(ABC):
    """A source of utterances.

    To add one, subclass it, state the facts below and write :meth:`read`. A file of this folder is found by itself;
    one of a user's own is named by its class in YAML.

    Attributes:
        name: Short name, also the ``corpus`` of its utterances.
        title: What it is, in one line.
        source: Where it comes from (URL).
        access: How to get it.
        licence: Its terms.
        citation: Whom to cite.
        languages: BCP 47 tags.
        emotions: From the corpus's codes to our words.
        rating_scale: Lowest and highest rating of arousal, valence and dominance, or None.
        counts: Published number of utterances per emotion word; empty where none is published.
        folders: Names under which the corpus is seen in practice, below the root; "" is the root itself.
        unconfirmed: What of its layout was not confirmed by real files or public code; "" if nothing.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    access: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    languages: ClassVar[tuple[str, ...]]
    emotions: ClassVar[Mapping[str, str]]
    rating_scale: ClassVar[tuple[float, float] | None] = None
    counts: ClassVar[Mapping[str, int]] = {}
    folders: ClassVar[tuple[str, ...]] = ("",)
    unconfirmed: ClassVar[str] = ""

    def __init__(self, root: str) -> None:
        self.root = root
        self.skipped: list[Skipped] = []

    @abstractmethod
    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the corpus from the folder that was found; call :meth:`skip` for what is left out."""

    def utterances(self) -> Sequence[Utterance]:
        """All utterances, doubled copies left out; ``skipped`` then says what was left out and why.

        Raises:
            CorpusError: If the corpus is not where it should be or holds nothing.
        """
        self.skipped = []
        folder = find_root(self.root, self.folders, self.access)
        found: dict[tuple[str, str], Utterance] = {}
        for utterance in self.read(folder):
            key = (utterance.corpus, utterance.id)
            if key in found:
                self._skip_doubled(utterance, found[key])
            else:
                found[key] = utterance
        utterances = self._valid(list(found.values()))
        if not utterances:
            reasons = "; ".join(f"{path}: {reason}" for path, reason, _ in self.skipped[:3])
            raise CorpusError(
                f"no utterance of {self.name} below {folder} ({reasons or 'no file fits'}); {self.access}"
            )
        return utterances

    def _skip_doubled(self, utterance: Utterance, first: Utterance) -> None:
        """Leave out a second utterance of an id: a copy, or another one that is then lost."""
        same = replace(utterance, path=first.path) == first
        if same and utterance.path != first.path:
            same = filecmp.cmp(utterance.path, first.path, shallow=False)
        if same:
            self.skip(utterance.path, f"doubled copy of {first.path}", Kind.COPY)
        else:
            self.skip(utterance.path, f"another one with the id of {first.path}")

    def _valid(self, found: list[Utterance]) -> list[Utterance]:
        # All at once is faster, and mostly all are valid.
        utterances = checked(columns_of(found), len(found), Faults())
        if utterances:
            return utterances
        # Something is wrong with some of them: which?
        for utterance in found:
            faults = Faults()
            utterances += checked(columns_of([utterance]), 1, faults)
            if faults.count:
                self.skip(utterance.path or utterance.id, faults.text)
        return utterances

    def skip(self, path: str | Path, reason: str, kind: Kind = Kind.LOST) -> None:
        """Remember what was skipped, why, and what that means: what is lost stops a command above its limit."""
        self.skipped.append(Skipped(str(path), reason, kind))

    def emotion(self, code: str, path: str | Path) -> str | None:
        """Our word for a code of the corpus; an unknown code is reported, and its utterance stays unlabelled."""
        word = self.emotions.get(code)
        if word is None:
            self.skip(path, f"label only: unknown emotion code {code!r}", Kind.KEPT)
        return word

    def rating(self, value: str | None, path: str | Path) -> float | None:
        """A rating on the corpus's scale, mapped to 0..1; None where there is none, or none on the scale (reported)."""
        if not value or self.rating_scale is None:
            return None
        try:
            return scale_rating(float(value), *self.rating_scale)
        except ValueError:
            low, high = self.rating_scale
            self.skip(path, f"label only: {value!r} is not a rating from {low:g} to {high:g}", Kind.KEPT)
            return None

    def audio(self, folder: Path, *suffixes: str) -> Iterator[Path]:
        """Audio files below a folder in a fixed order, without hidden files and Git LFS pointers.

        Args:
            folder: Where to look, at any depth.
            suffixes: In lower case with the dot; by default those of WAV and FLAC.
        """
        wanted = suffixes or (".wav", ".flac")

        def _dangling(path: Path) -> None:
            # A link without a suffix may have led to a whole folder.
            if path.suffix.lower() in (*wanted, ""):
                self.skip(path, "a link that leads nowhere; in a git-annex checkout run `git annex get`")

        for path in files_below(folder, _dangling):
            if path.suffix.lower() not in wanted:
                continue
            if is_lfs_pointer(path):
                self.skip(path, "a Git LFS pointer, not audio; run `git lfs pull` in the corpus's checkout")
            else:
                yield path

    def files(self, folder: Path, *patterns: str) -> list[Path]:
        """Files below a folder, at any depth, whose names fit one of the patterns; links are followed."""
        found = []
        for path in files_below(folder):
            if any(fnmatchcase(path.name, pattern) for pattern in patterns):
                found.append(path)
        return found


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is only a pointer that Git LFS or git-annex left in place of the real one."""
    if path.stat().st_size > 400:
        return False
    with path.open("rb") as file:
        return file.read(len(_LFS)).startswith((_LFS, _ANNEX))


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


def decode(path: Path, *encodings: str) -> str:
    """Text of a file in the first encoding that fits; a byte order mark decides by itself.

    Args:
        path: The file.
        encodings: Tried in turn after UTF-8; the last one never fails if it is ``"latin-1"``.

    Raises:
        CorpusError: If none fits.
    """
    data = path.read_bytes()
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
    marked = tuple(encoding for mark, encoding in marks.items() if data.startswith(mark))
    for encoding in marked or ("utf-8", *encodings):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise CorpusError(f"{path}: text in an unknown encoding (tried {', '.join(marked or ('utf-8', *encodings))})")
