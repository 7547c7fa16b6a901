"""From utterances to batches: reading and collating."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from empathy_lightning.audio import SAMPLE_RATE, AudioError, duration_of, read
from empathy_lightning.data.augmentation import drawn_from
from empathy_lightning.data.batching import Seconds
from empathy_lightning.data.packed import each
from empathy_lightning.data.sampler import Draw
from empathy_lightning.progress import progress_bar
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import EMOTIONS, RATINGS, Utterance

MISSING = -100
"""Category of an utterance without an emotion label."""


@dataclass
class SpeechBatch:
    """Utterances side by side, padded on the right.

    Attributes:
        waveform: Samples at 16 kHz (in a vocoder's training at its rate) in -1..1, shape (B, T), zero past each length.
        lengths: Valid samples, shape (B,).
        emotion: Category ids, shape (B,), -100 where there is no label.
        arousal: Ratings in 0..1, shape (B,), NaN where there is none.
        valence: As arousal.
        dominance: As arousal.
        transcripts: Words said, "" where unknown.
        emotions: Names of the categories, "" where unknown.
        responses: Expected replies, None where there is none.
        units: Units of the spoken replies, each (U,), None where there are none.
        ids: Ids of the utterances.
        raw_labels: The corpora's own labels.
        emotion_votes: Shares of the raters by category, shape (B, categories); a row of zeros where unknown.
        categories: What the category ids stand for.
        unreadable: Why utterances that belonged here are not here, one line each.
        cut: Whether each response was cut and so has no end; empty where none was.
        prompts: Prompts of the utterances' own, None where one has none; empty where none has.
        emotion_waveform: Samples in which the emotion is to be heard, shape (B, T'): of the other recording where an
            utterance names one, else of the utterance itself; None where no utterance names one.
        emotion_lengths: Valid samples of those, shape (B,).
        speakers: Who speaks, with the corpus, "" where unknown; empty where nobody said.
        corpora: Names of the corpora; empty where nobody said.
        languages: BCP 47 tags, "" where unknown; empty where nobody said.
    """

    waveform: Tensor
    lengths: Tensor
    emotion: Tensor
    arousal: Tensor
    valence: Tensor
    dominance: Tensor
    transcripts: list[str]
    emotions: list[str]
    responses: list[str | None]
    units: list[Tensor | None]
    ids: list[str]
    emotion_votes: Tensor
    categories: tuple[str, ...] = EMOTIONS
    unreadable: list[str] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)
    raw_labels: list[dict[str, str]] = field(default_factory=list)
    prompts: list[Prompt | None] = field(default_factory=list)
    emotion_waveform: Tensor | None = None
    emotion_lengths: Tensor | None = None
    speakers: list[str] = field(default_factory=list)
    corpora: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpeechBatch:
        """The batch with its tensors on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SpeechBatch:
        """The batch in page-locked memory, from which copies to a GPU do not wait; loaders call it."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> SpeechBatch:
        changed: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                changed[name] = change(value)
        units = [None if row is None else change(row) for row in self.units]
        return replace(self, **changed, units=units)


Row = tuple[Tensor, Utterance] | tuple[Tensor, Utterance, Tensor]
"""A waveform (T,) with its record and, where the record names one, the waveform that gives the emotion."""


def _silent(row: Row | AudioError) -> Row | AudioError:
    """A row that is heard and has nothing to say."""
    if isinstance(row, AudioError):
        return row
    nothing: dict[str, Any] = dict.fromkeys(("emotion", "response", "units", *RATINGS))
    return row[0], replace(row[1], emotion_votes={}, **nothing), *row[2:]


class SpeechDataset(Dataset[Row | AudioError]):
    """Waveforms of utterances with their records.

    Args:
        utterances: What to read.
        max_seconds: Longer utterances are cut there.
        read_audio: False leaves the waveforms out, for trainers that need only texts and units.
        cache: Keep decoded waveforms in memory, for corpora of a few hours at most.
        augmentation: What to do to each waveform (T,) every time that it is read; what it draws from torch's generator
            follows from the key of the :class:`.data.sampler.Draw` alone, wherever and after whatever it is read.
        sample_rate: Of the waveforms, in Hz.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float = 30.0,
        read_audio: bool = True,
        cache: bool = False,
        augmentation: Callable[[Tensor], Tensor] | None = None,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        self.utterances = utterances
        self.max_seconds = max_seconds
        self.read_audio = read_audio
        self.augmentation = augmentation
        self.sample_rate = sample_rate
        self._cache: dict[tuple[str, float, float | None], Tensor] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, draw: int | Draw) -> Row:
        utterance = self.utterances[draw.row if isinstance(draw, Draw) else draw]
        if not self.read_audio:
            # A sample of silence, since every batch has a waveform.
            return torch.zeros(1), utterance
        chance: AbstractContextManager[None] = nullcontext()
        if self.augmentation is not None and isinstance(draw, Draw):
            chance = drawn_from(draw.key)
        with chance:
            waveform = self._waveform(utterance.path, utterance.start, utterance.end, utterance.duration)
            if utterance.emotion_path is None:
                return waveform, utterance
            pair = self._waveform(utterance.emotion_path, utterance.emotion_start, utterance.emotion_end)
            return waveform, utterance, pair

    def __getitems__(self, draws: Sequence[int | Draw]) -> list[Row | AudioError]:
        """The rows of a batch, with the error in the place of one that cannot be read.

        If none can be read, the next utterance that can stands in, since a batch must not be empty; it has no labels
        and no response there, so that it counts for nothing.

        Raises:
            AudioError: If nothing in the whole dataset can be read.
        """
        rows = [self._row(draw) for draw in draws]
        last = draws[-1] if isinstance(draws[-1], Draw) else Draw(draws[-1], (0, 0, 0))
        for step in range(len(self)):
            if any(not isinstance(row, AudioError) for row in rows):
                return rows
            rows.append(_silent(self._row(last._replace(row=(last.row + 1 + step) % len(self)))))
        raise next(row for row in rows if isinstance(row, AudioError))

    def _row(self, draw: int | Draw) -> Row | AudioError:
        try:
            return self[draw]
        except AudioError as error:
            return error

    def _waveform(self, path: str, start: float, end: float | None, stated: float | None = None) -> Tensor:
        waveform = self._read(path, start, end)
        seconds = len(waveform) / self.sample_rate
        if stated is not None and seconds > 2 * stated + 1:
            raise AudioError(f"{path}: {seconds:.1f} s or more, {stated:.1f} s by its record; correct one of them")
        return waveform if self.augmentation is None else self.augmentation(waveform)

    def _read(self, path: str, start: float, end: float | None) -> Tensor:
        key = (path, start, end)
        if self._cache is not None and key in self._cache:
            return _from_16_bits(self._cache[key])
        waveform = read(path, start, end, self.sample_rate)[: round(self.max_seconds * self.sample_rate)]
        if self._cache is not None:
            # What is returned is what will be returned again, to the last bit; 16 bits would clip what goes beyond 1.
            if waveform.abs().max() <= 1:
                waveform = (waveform * 32768).round().clamp(max=32767).to(torch.int16)
            self._cache[key] = waveform
            waveform = _from_16_bits(waveform)
        return waveform

    def durations(self) -> Seconds:
        """Seconds of each utterance, shape (N,), from its record or else from its file's header; 1 s without either.

        Where another recording gives the emotion, the longer of the two counts.
        """
        known = sum(seconds is not None for (seconds,) in each(self.utterances, "duration"))
        rows = progress_bar(self.utterances, what="lengths of files", shown=len(self) - known >= 2_000)
        return np.fromiter((min(self.max_seconds, self._length(u)) for u in rows), float, len(self))

    def _length(self, utterance: Utterance) -> float:
        try:
            seconds = utterance.duration or duration_of(utterance.path, utterance.start, utterance.end)
            if utterance.emotion_path is None:
                return seconds
            return max(seconds, duration_of(utterance.emotion_path, utterance.emotion_start, utterance.emotion_end))
        except AudioError:
            return 1.0  # Reading it will fail again, and then it is reported.


def _from_16_bits(stored: Tensor) -> Tensor:
    return stored if stored.is_floating_point() else stored.float() / 32768


def collate(rows: Sequence[Row | AudioError], emotions: Sequence[str]) -> SpeechBatch:
    """Make a batch.

    Args:
        rows: Waveforms (T_i,) with their utterances, or the error of one that could not be read.
        emotions: The task's categories; an emotion outside them counts as missing.
    """
    unreadable = [str(row) for row in rows if isinstance(row, AudioError)]
    readable = [row for row in rows if not isinstance(row, AudioError)]
    utterances = [row[1] for row in readable]
    waveform, lengths = _side_by_side([row[0] for row in readable])
    emotion_waveform = emotion_lengths = None
    if any(len(row) > 2 for row in readable):
        heard = [row[0] if len(row) < 3 else row[2] for row in readable]
        emotion_waveform, emotion_lengths = _side_by_side(heard)
    cut = [u.response_cut for u in utterances]
    prompts = [None if u.prompt is None else Prompt(u.prompt, u.system) for u in utterances]
    index = {name: position for position, name in enumerate(emotions)}
    votes = [[u.emotion_votes.get(name, 0.0) for name in emotions] for u in utterances]
    return SpeechBatch(
        waveform=waveform,
        lengths=lengths,
        emotion=torch.tensor([index.get(u.emotion or "", MISSING) for u in utterances]),
        arousal=_numbers([u.arousal for u in utterances]),
        valence=_numbers([u.valence for u in utterances]),
        dominance=_numbers([u.dominance for u in utterances]),
        transcripts=[u.transcript or "" for u in utterances],
        emotions=[u.emotion or "" for u in utterances],
        categories=tuple(emotions),
        responses=[u.response for u in utterances],
        units=[None if u.units is None else torch.tensor(u.units) for u in utterances],
        ids=[u.id for u in utterances],
        raw_labels=[u.raw_labels for u in utterances],
        emotion_votes=torch.tensor(votes),
        unreadable=unreadable,
        cut=cut if any(cut) else [],
        prompts=prompts if any(prompts) else [],
        emotion_waveform=emotion_waveform,
        emotion_lengths=emotion_lengths,
        speakers=[f"{u.corpus} {u.speaker}" if u.speaker else "" for u in utterances],
        corpora=[u.corpus for u in utterances],
        languages=[u.language or "" for u in utterances],
    )


def _side_by_side(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveforms (T_i,) right-padded with zeros, shape (B, T), and their valid samples (B,)."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    return torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), lengths


def _numbers(values: Sequence[float | None]) -> Tensor:
    """Shape (B,), NaN for None."""
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float32)


def batch_of(waveforms: Sequence[Tensor], categories: Sequence[str] = ()) -> SpeechBatch:
    """Recordings of which nothing is known, as a batch.

    Args:
        waveforms: At 16 kHz, each (T_i,).
        categories: Names of the emotions, for fillers of slots that draw from them.
    """
    unknown = [Utterance(id=str(number), corpus="", path="") for number in range(1, len(waveforms) + 1)]
    return collate(list(zip(waveforms, unknown, strict=True)), categories)
