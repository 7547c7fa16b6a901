"""How the spoken replies sound: prosody, and whether the style is that which suits the emotion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured
from empathy_lightning.evaluation.speech_measures import style_of
from empathy_lightning.evaluation.styles import StyleClassifier
from empathy_lightning.evaluation.target_speech import targets_of, training_replies
from empathy_lightning.jobs import digest
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.progress import progress_bar
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance


class Tone:
    """Pitch, energy and rate of each spoken reply; with targets also whether its style is heard right.

    The style is that which the reply records, else the emotion that it answers; it is heard right where the means of
    the training replies of that style are the nearest (:class:`.styles.StyleClassifier`).

    Args:
        targets: Manifest whose training replies are spoken in known styles; None tells no style.

    Raises:
        InputError: If it tells no two styles apart.
    """

    name = "tone"
    needs = ("response_path",)

    def __init__(self, targets: str | None = None) -> None:
        self.targets = targets
        self._classifier = None if targets is None else _classifier(Path(targets))

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the prosody in Hz, dB and words a second, ``seconds``, and ``style_right``."""
        rows = [self._row(reply) for reply in progress_bar(replies, what="tone of the replies")]
        return Measured(rows, {"unreadable": rows.count(None)})

    def _row(self, reply: Utterance) -> dict[str, Any] | None:
        sound = _prosody(reply)
        if sound is None:
            return None
        row: dict[str, Any] = {name: round(value, 4) for name, value in sound.items()}
        style = style_of(reply)
        if self._classifier is not None and style in self._classifier.styles:
            # A reply without a voice has no style.
            row["heard_style"] = self._classifier(sound) if "f0_mean" in sound else None
            row["style_right"] = int(row["heard_style"] == style)
        return row

    def made_from(self) -> dict[str, str]:
        """Content of the targets."""
        return {} if self.targets is None else {"targets": digest(self.targets)}


def _classifier(targets: Path) -> StyleClassifier:
    sounds: list[dict[str, float]] = []
    styles: list[str] = []
    for reply in training_replies(targets_of(targets).values()):
        sound, style = _prosody(reply), style_of(reply)
        if sound is not None and "f0_mean" in sound and style is not None:
            sounds.append(sound)
            styles.append(style)
    try:
        return StyleClassifier(sounds, styles)
    except InputError as error:
        raise InputError(f"{targets}: {error}") from None


def _prosody(reply: Utterance) -> dict[str, float] | None:
    """Prosody and ``seconds``; only the latter without a voice, None where the speech cannot be read."""
    try:
        waveform = read(reply.response_path or "")
    except AudioError:
        return None
    try:
        sound = prosody(waveform, max(1, len(words(reply.response or ""))))
    except ValueError:
        sound = {}
    return {**sound, "seconds": len(waveform) / SAMPLE_RATE}
