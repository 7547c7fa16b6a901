"""EmoBox: manifests of 32 corpora in one form, with folds.

``data/<corpus>/<corpus>.jsonl`` holds all of a corpus and ``data/<corpus>/fold_K`` the parts
of fold K; ``label_map.json`` leads from a corpus's own codes to shared words, which differ from
corpus to corpus for the same letter. Paths of audio are relative to the checkout. An
older form has ``audio`` and ``label`` for ``wav`` and ``emo``, the lists of the second track
``wav_filename`` and ``label``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.corpus import Corpus, CorpusError, decode, is_lfs_pointer
from empathy_lightning.utterance import Utterance

_PART = re.compile(r".*_(train|valid|test)_fold_?\d+")
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_VIDEO = (".mp4", ".avi", ".webm", ".m4a")
_NO_EMOTION = ("no-agreement", "unknown", "breath")
_LANGUAGES = {
    "aesdd": "el", "ased": "am", "cafe": "fr", "casia": "zh", "emodb": "de", "emovo": "it", "emozionalmente": "it",
    "m3ed": "zh", "mer2023": "zh", "mesd": "es", "oreau": "fr", "pavoque": "de", "polish": "pl", "resd": "ru",
    "shemo": "fa", "subesco": "bn", "turevdb": "tr", "urdu": "ur",
    **dict.fromkeys(("cremad", "emns", "emovdb", "enterface", "iemocap", "jlcorpus"), "en"),
    **dict.fromkeys(("mead", "meld", "msppodcast", "ravdess", "savee", "tess"), "en"),
}  # fmt: skip


class EmoBox(Corpus):
    """Utterances of one corpus as EmoBox lists them; their ids begin with its name.

    Where it lists videos, their sound is expected in WAV files of the same names beside them.

    Args:
        path: A folder such as ``EmoBox/data/iemocap``, or one JSONL file.
        root: Folder that audio paths are relative to; by default the one that holds ``data``.
        fold: Which fold of a folder to read, from 1; None for all of the corpus, without splits.
    """

    name = "emobox"
    title = "EmoBox, manifests and folds of 32 corpora in 14 languages"
    source = "https://github.com/emo-box/EmoBox"
    access = "clone https://github.com/emo-box/EmoBox and put the corpora into its folder downloads"
    licence = "MIT (manifests); each corpus has its own"
    citation = "Ma et al. 2024, Interspeech"
    languages = tuple(sorted(set(_LANGUAGES.values())))
    emotions = {
        "neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", "surprise": "surprised",
        "fear": "fearful", "disgust": "disgust", "calm": "calm", "excited": "excited", "contempt": "contempt",
        "boredom": "bored", "amused": "amused", "sleepy": "sleepy", "sarcastic": "sarcastic",
        "apologetic": "apologetic", "assertive": "assertive", "concerned": "concerned",
        "encouraging": "encouraging", "anxious": "anxious", "other": "other",
        **dict.fromkeys(("worried", "enthusiastic", "poker", "pleasure", "pain, groan"), "other"),
        "disappointment, disapproval": "other",
        "surprised": "surprised", "fearful": "fearful",
        "gio": "happy", "neu": "neutral", "pau": "fearful", "rab": "angry", "sor": "surprised", "tri": "sad",
        "dis": "disgust",
    }  # fmt: skip
    unconfirmed = "the codes of emovo, which has no label map"

    def __init__(self, path: str, root: str | None = None, fold: int | None = None) -> None:
        above = [folder.parent for folder in (Path(path), *Path(path).parents) if folder.name == "data"]
        checkout = above[0] if above else Path(path).parent
        super().__init__(root or str(checkout))
        self.path = Path(path)
        self.fold = fold

    def read(self, folder: Path) -> Iterator[Utterance]:
        """Read the JSON lines; what has no audio is left out."""
        words = self._label_map()
        for file in self._files():
            part = _PART.fullmatch(file.stem)
            split = _SPLITS[part[1]] if part else None
            for number, line in enumerate(decode(file).split("\n"), 1):
                if not line.strip():
                    continue
                try:
                    utterance = self._utterance(json.loads(line), folder, split, words)
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    self.skip(f"{file}, line {number}", f"not a row of EmoBox: {error!r}")
                    continue
                if not Path(utterance.path).is_file():
                    self.skip(utterance.path, "a row without audio")
                elif is_lfs_pointer(Path(utterance.path)):
                    self.skip(utterance.path, "a Git LFS pointer, not audio")
                else:
                    yield utterance

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        name, fold = self.path.name, self.fold
        listed = [f"{name}.jsonl"]
        if fold is not None:
            listed = [f"fold_{fold}/{name}_{part}_fold_{fold}.jsonl" for part in _SPLITS]
        files = [self.path / file for file in listed if (self.path / file).is_file()]
        if not files:
            raise CorpusError(f"no {listed[0]} in {self.path}; {self.access}")
        return files

    def _utterance(self, row: dict[str, Any], folder: Path, split: str | None, words: dict[str, str]) -> Utterance:
        wav = row.get("wav") or row.get("audio") or row["wav_filename"]
        path = folder / wav
        if path.suffix.lower() in _VIDEO:
            path = path.with_suffix(".wav")
        key = "emo" if "emo" in row else "label"
        code = str(row[key])
        dataset = str(row.get("dataset", ""))
        word = words.get(code.lower(), code.lower())
        raw = {"emotion": code, "dataset": dataset, "channel": str(row.get("channel", ""))}
        return Utterance(
            id=str(row.get("key") or Path(wav).with_suffix("")),
            corpus=self.name,
            path=str(path),
            start=float(row.get("start_time", 0.0)),
            end=float(row["end_time"]) if "end_time" in row else None,
            duration=float(row["length"]) if "length" in row else None,
            language=_LANGUAGES.get(dataset),
            speaker=str(row["speaker"]) if "speaker" in row else None,
            split=split,
            emotion=None if word in _NO_EMOTION else self.emotion(word, path),
            raw_labels={key: value for key, value in raw.items() if value},
        )

    def _label_map(self) -> dict[str, str]:
        for folder in (self.path, *self.path.parents[:2]):
            if (folder / "label_map.json").is_file():
                words: dict[str, str] = json.loads(decode(folder / "label_map.json"))
                # In lower case, as the rows of EmoDB and its map disagree about capitals.
                return {code.lower(): word.lower() for code, word in words.items()}
        return {}
