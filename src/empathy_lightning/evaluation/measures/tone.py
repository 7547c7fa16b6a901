"""How the spoken replies sound: prosody, beside the replies as they should sound, and whether the style is heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from empathy_lightning.audio import AudioError
from empathy_lightning.digests import digest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.measured import Measured, readable_rows, unreadable_in
from empathy_lightning.evaluation.styles import (
    FEATURES,
    StyleClassifier,
    sound_of,
    style_of,
    targets_of,
    training_replies,
)
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

Row = dict[str, Any]


class Tone:
    """Pitch, energy and rate of each spoken reply; with targets, how far they are from these, and the style heard.

    The style is that which the reply records (``reply_style``), else its target, else the emotion that is answered. It
    is heard right where the means of the training replies of that style are the nearest
    (:class:`.styles.StyleClassifier`); a reply without a voice has no style, and counts as wrong.

    Args:
        targets: Manifest of the same replies as they should sound, with training replies in known styles; either may
            be missing. None compares with nothing.

    Raises:
        InputError: If it names no speech.
    """

    name = "tone"
    needs = ("response_path",)
    part = 32
    ratios: ClassVar[dict[str, tuple[str, str]]] = {"duration_ratio": ("own_seconds", "target_seconds")}
    lower_is_better = ("duration_error", *(f"{name}_error" for name in FEATURES))

    def __init__(self, targets: str | None = None) -> None:
        self.targets = targets
        self._known = {} if targets is None else targets_of(Path(targets))
        self._training = _sounds(training_replies(self._known.values()))
        self._classifier, self._left_out = _classifier(self._training)

    def __call__(self, replies: Sequence[Utterance]) -> Measured:
        """Rows with the prosody in Hz, dB and words a second, ``seconds``, differences, and ``style_right``."""
        rows: list[Row | None] = [self._row(reply) for reply in progress_bar(replies, what="tone of the replies")]
        return Measured(rows, self.figures(replies, rows))

    def _row(self, reply: Utterance) -> Row:
        target = self._known.get((reply.corpus, reply.id))
        style = reply.raw_labels.get("reply_style") or style_of(target or reply)
        try:
            row: Row = {**sound_of(reply), "style": style}
        except AudioError as error:
            return {"unreadable": str(error)}
        if target is not None:
            row |= _beside(row, target)
        if self._classifier is not None and style in self._classifier.styles:
            row["heard_style"] = self._classifier(row) if "f0_mean" in row else None
            row["style_right"] = int(row["heard_style"] == style)
        return row

    def figures(self, replies: Sequence[Utterance], rows: Sequence[Row | None]) -> dict[str, Any]:
        """What could not be read or has no voice; the confusion of the styles, and what each sounds like."""
        readable = readable_rows(rows)
        silent = sum("f0_mean" not in row for row in readable)
        found: dict[str, Any] = {**unreadable_in(rows), "without_voice": silent}
        if self._classifier is None:
            if self.targets is not None:
                found["styles"] = self._left_out
            return found
        styles = self._classifier.styles
        heard = Counter((row["style"], row["heard_style"]) for row in readable if "style_right" in row)
        confusion = []
        for own in styles:
            # The last column counts replies without a voice.
            confusion.append([heard[own, other] for other in (*styles, None)])
        found |= {"styles": styles, "styles_heard": confusion}
        found["sounds_like"] = {style: self._sounds_like(style, readable) for style in styles}
        return found

    def _sounds_like(self, style: str, rows: Sequence[Row]) -> dict[str, Any]:
        """Means of the replies of a style beside those of its training replies."""
        own = [row for row in rows if row["style"] == style and "f0_mean" in row]
        if not own:
            return {"replies": 0}
        target = [sound for other, sound in self._training if other == style]
        found: dict[str, Any] = {"replies": len(own)}
        for name in FEATURES:
            found[name] = {"reply": _mean(own, name), "target": _mean(target, name)}
        return found

    def made_from(self) -> dict[str, str]:
        """Content of the targets."""
        return {} if self.targets is None else {"targets": digest(self.targets)}


def _beside(row: Row, target: Utterance) -> Row:
    """Differences from the target; of the length, as a share of it."""
    try:
        other = sound_of(target)
    except AudioError as error:
        return {"target_unreadable": str(error)}
    own, seconds = row["seconds"], other["seconds"]
    found: Row = {"own_seconds": own, "target_seconds": seconds, "duration_error": round(abs(own / seconds - 1), 6)}
    if "f0_mean" in row and "f0_mean" in other:
        found |= {f"{name}_error": round(abs(row[name] - other[name]), 4) for name in FEATURES}
    return found


def _sounds(replies: Sequence[Utterance]) -> list[tuple[str, dict[str, float]]]:
    """Style and prosody of the training replies that have a voice."""
    found = []
    for reply in replies:
        try:
            sound = sound_of(reply)
        except AudioError:
            continue
        if "f0_mean" in sound:
            found.append((style_of(reply) or "", sound))
    return found


def _classifier(training: Sequence[tuple[str, dict[str, float]]]) -> tuple[StyleClassifier | None, str]:
    """What tells the styles, or None and why nothing does."""
    try:
        return StyleClassifier([sound for _, sound in training], [style for style, _ in training]), ""
    except InputError as error:
        return None, f"left out: {error}"


def _mean(rows: Sequence[Mapping[str, float]], name: str) -> float:
    return round(sum(row[name] for row in rows) / len(rows), 4)
