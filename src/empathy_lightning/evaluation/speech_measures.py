"""What is measured of each spoken reply, in parts that are written whole, so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read
from empathy_lightning.evaluation.reply_speech import SpeechRecogniser
from empathy_lightning.evaluation.speech_judges import Predictor, SpeakerEncoder
from empathy_lightning.files import write_json
from empathy_lightning.jobs import Claim
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.progress import progress_bar
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance

PART = 32
"""Replies in a part, the most that an interruption costs."""


@dataclass(frozen=True)
class Spoken:
    """A spoken reply to be measured.

    Attributes:
        utterance: Its response is what ``response_path`` should say.
        target: The same reply as it should sound, where there is a recording.
        style: In which it should be spoken, where that is known.
        training: Whether it only tells what its style sounds like.
    """

    utterance: Utterance
    target: Utterance | None
    style: str | None
    training: bool = False


@dataclass(frozen=True)
class Instruments:
    """What measures beside prosody.

    Attributes:
        recogniser: Writes down what is said.
        speaker: Tells voices apart.
        judges: By package, what predicts how good it sounds.
    """

    recogniser: SpeechRecogniser | None
    speaker: SpeakerEncoder | None
    judges: Mapping[str, Predictor]


def style_of(utterance: Utterance) -> str | None:
    """The style that a reply records (``prepare speech``); else the emotion that it answers."""
    return utterance.raw_labels.get("reply_style") or utterance.emotion


def measured(
    replies: Sequence[Spoken], folder: Path, made_from: dict[str, Any], instruments: Instruments, again: bool
) -> list[dict[str, Any]]:
    """Measure replies; those that a part holds already are not measured again.

    Args:
        replies: In an order that the same run has again.
        folder: Where the parts go.
        made_from: What decides the measures, as JSON values.
        instruments: What measures.
        again: Remove the parts that are there first.

    Returns:
        A row for each reply, ready for JSON.

    Raises:
        InputError: If the parts are of something else.
    """
    claim = Claim(folder, made_from, "part-*.json")
    if not claim.is_met(again):
        claim.write()
    rows: list[dict[str, Any]] = []
    with progress_bar(total=len(replies), what="measuring speech") as progress:
        for start in range(0, len(replies), PART):
            path = folder / f"part-{start // PART:05d}.json"
            few = replies[start : start + PART]
            if not path.is_file():
                write_json(path, _part(few, instruments))
            rows += json.loads(path.read_text(encoding="utf-8"))
            progress.update(len(few))
    return rows


def _part(replies: Sequence[Spoken], instruments: Instruments) -> list[dict[str, Any]]:
    rows = [_row(spoken, instruments) for spoken in replies]
    if instruments.recogniser is None:
        return rows
    heard = [row for row, spoken in enumerate(replies) if not spoken.training and "unreadable" not in rows[row]]
    found = instruments.recogniser.measure([replies[row].utterance for row in heard], [], None)
    for row, said in zip(heard, found, strict=True):
        rows[row]["speech"] = said and {**vars(said), "word_error_rate": said.word_error_rate}
    return rows


def _row(spoken: Spoken, instruments: Instruments) -> dict[str, Any]:
    u = spoken.utterance
    row: dict[str, Any] = {"corpus": u.corpus, "id": u.id, "style": spoken.style, "reply": u.response}
    try:
        waveform = read(u.response_path or "")
    except AudioError as error:
        return row | {"unreadable": str(error)}
    row |= _sound(waveform, u)
    if spoken.training:
        return row
    for judge in instruments.judges.values():
        row |= {name: round(score, 4) for name, score in judge(waveform).items()}
    if spoken.target is not None:
        row |= _beside(waveform, spoken.target, instruments.speaker)
    return row


def _sound(waveform: Tensor, u: Utterance) -> dict[str, Any]:
    """Length and prosody; no prosody where there is no voice."""
    try:
        figures = prosody(waveform, max(1, len(words(u.response or ""))))
    except ValueError:
        figures = None
    rounded = figures and {name: round(value, 4) for name, value in figures.items()}
    return {"seconds": round(len(waveform) / SAMPLE_RATE, 3), "prosody": rounded}


def _beside(waveform: Tensor, target: Utterance, speaker: SpeakerEncoder | None) -> dict[str, Any]:
    """The target's length and prosody, and how alike the voices are."""
    try:
        other = read(target.response_path or "")
    except AudioError as error:
        return {"target_unreadable": str(error)}
    row: dict[str, Any] = {"target": _sound(other, target)}
    if speaker is not None:
        row["speaker_similarity"] = round(speaker.similarity(waveform, other), 4)
    return row


def by_styles(replies: Sequence[Spoken]) -> Iterator[Spoken]:
    """The replies to be measured, of each style in turn."""
    groups: dict[str | None, list[Spoken]] = {}
    for spoken in replies:
        if not spoken.training:
            groups.setdefault(spoken.style, []).append(spoken)
    for turn in range(max(map(len, groups.values()), default=0)):
        yield from (group[turn] for group in groups.values() if turn < len(group))
