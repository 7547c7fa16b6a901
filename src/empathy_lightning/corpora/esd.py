"""ESD: ten Mandarin and ten English speakers say the same 350 sentences in five emotions.

``0011_000351.wav`` is speaker 11 with utterance 351. Utterances 1 to 1750 come in blocks
of 350, one per emotion; in each block the first 20 are for validation, the next 30 for
testing and the others for training. A text file per speaker holds number, transcript and
emotion between tabs, in an encoding that changes from speaker to speaker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from empathy_lightning.corpora.corpus import Corpus, CorpusError, Kind, decode
from empathy_lightning.errors import meant
from empathy_lightning.utterance import Utterance

_NAME = re.compile(r"(00(?:0[1-9]|1\d|20))_(\d{6})")
_BLOCKS = ("Neutral", "Angry", "Happy", "Sad", "Surprise")
_CHINESE = {"中立": "neutral", "生气": "angry", "快乐": "happy", "伤心": "sad", "惊喜": "surprised"}
_LINE = re.compile(rf"(\d{{4}}_\d{{6}})\s+(.*?)(?:\s+({'|'.join((*_BLOCKS, *_CHINESE))}))?")
_SPLITS = {"train": "train", "evaluation": "validation", "test": "test"}


def block_of(number: int) -> tuple[str, str]:
    """Emotion, as its folder is named, and split of the utterances with a number from 1 to 1750.

    Raises:
        ValueError: If the number lies outside.
    """
    if not 1 <= number <= 1750:
        raise ValueError(f"utterance number {number} lies outside 1..1750")
    block, position = divmod(number - 1, 350)
    split = "train"
    if position < 50:
        split = "validation" if position < 20 else "test"
    return _BLOCKS[block], split


class ESD(Corpus):
    """Utterances of ESD with its official split, in which all speakers are in all parts.

    Args:
        root: Folder that holds the corpus, or the folder of the speakers.
        languages: Which speakers to read: ``"en"``, ``"zh"`` or both.
    """

    name = "esd"
    title = "Emotional Speech Dataset (ESD), read Mandarin and English, 20 speakers"
    source = "https://github.com/HLTSingapore/Emotional-Speech-Data"
    access = "sign the licence at https://hltsingapore.github.io/ESD/ and unpack the corpus there"
    licence = "signed agreement, research only"
    citation = "Zhou et al. 2022, Speech Communication 137: 1-18"
    languages = ("en", "zh")
    emotions = {
        "Neutral": "neutral", "Angry": "angry", "Happy": "happy", "Sad": "sad", "Surprise": "surprised", **_CHINESE,
    }  # fmt: skip
    counts = dict.fromkeys(("neutral", "angry", "happy", "sad", "surprised"), 7000)
    folders = ("Emotion Speech Dataset", "Emotional Speech Dataset (ESD)", "ESD", "")

    def __init__(self, root: str, languages: Sequence[str] = ("en", "zh")) -> None:
        super().__init__(root)
        unknown = sorted(set(languages) - {"en", "zh"})
        if unknown:
            raise CorpusError(f"ESD holds en and zh, not {', '.join(unknown)}{meant(unknown[0], ['en', 'zh'])}")
        self.chosen = tuple(languages)

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the files of all chosen speakers, with or without folders for the splits."""
        lines = self._lines(folder)
        seen = set()
        for path in self.audio(folder):
            match = _NAME.fullmatch(path.stem)
            if match is None or not 1 <= int(match[2]) <= 1750:
                self.skip(path, "its name is not one of ESD")
            elif _language(match[1]) in self.chosen:
                seen.add(path.stem)
                yield self._utterance(path, match[1], lines.get(path.stem))
        for stem in lines:
            if stem not in seen:
                self.skip(stem, "a line of text without audio")

    def _utterance(self, path: Path, speaker: str, line: tuple[str, str] | None) -> Utterance:
        code, split = block_of(int(path.stem[-6:]))
        folder = next((part for part in (path.parent.name, path.parent.parent.name) if part in _BLOCKS), code)
        text, written = line or (None, "")
        if line is None:
            self.skip(path, "transcript only: no line in the speaker's text file", Kind.KEPT)
        if folder != code or (written and self.emotions.get(written) != self.emotions[folder]):
            self.skip(
                path, f"label only: folder {folder}, number {code}, text file {written!r}; the folder counts", Kind.KEPT
            )
        return Utterance(
            id=path.stem,
            corpus=self.name,
            path=str(path),
            transcript=text,
            language=_language(speaker),
            speaker=speaker,
            split=_SPLITS.get(path.parent.name, split),
            emotion=self.emotions[folder],
            # The same in each block, and so for each emotion, however the speaker's file spells the words.
            raw_labels={"emotion": written or folder, "sentence": str((int(path.stem[-6:]) - 1) % 350 + 1)},
        )

    def _lines(self, folder: Path) -> dict[str, tuple[str, str]]:
        lines: dict[str, tuple[str, str]] = {}
        for path in self.files(folder, "[0-9][0-9][0-9][0-9].txt"):
            if _language(path.stem) not in self.chosen:
                continue
            encodings = ("gb18030",) if _language(path.stem) == "zh" else ("cp1252", "latin-1")
            try:
                text = decode(path, *encodings)
            except ValueError as error:
                self.skip(path, f"transcripts only: {error}", Kind.KEPT)
                continue
            for line in filter(None, map(str.strip, text.split("\n"))):
                fields = [field.strip() for field in line.split("\t")]
                match = _LINE.fullmatch(line)
                if len(fields) == 3 and _NAME.fullmatch(fields[0]):
                    lines[fields[0]] = (fields[1], fields[2])
                elif match and match[2]:
                    lines[match[1]] = (match[2], match[3] or "")
                else:
                    self.skip(path, f"not a line of number, transcript and emotion: {line!r}", Kind.KEPT)
        return lines


def _language(speaker: str) -> str:
    return "zh" if int(speaker) <= 10 else "en"
