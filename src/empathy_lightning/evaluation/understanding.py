"""Whether speech is understood: replies to it beside those to its transcript, and what is repeated of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.intervals import mean, ratio
from empathy_lightning.files import check_target, write_json
from empathy_lightning.metrics.text import chrf
from empathy_lightning.text import words
from empathy_lightning.utterance import Utterance

Key = tuple[str, str]
"""Corpus and id of an utterance."""


def evaluate_understanding(
    expected: Path,
    replies: Path | None = None,
    cascade: Path | None = None,
    repeated: Path | None = None,
    heard: Path | None = None,
    out: Path | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Measure what a bot understood of speech, and print it.

    Likeness is chrF of each reply and the reply to the transcript, averaged. The floor is that of the reply to another
    utterance's transcript (the next one's), and a share is how far from the floor to 1, or to the cascade, a reply
    comes. All replies should be of one frozen model, the likeliest words, of one longest length.

    Args:
        expected: Manifest whose responses are the model's replies to the transcripts.
        replies: The same utterances with the replies to the speech.
        cascade: With the replies to what a recogniser wrote down.
        repeated: With what the bot said when it was to repeat the words.
        heard: With the recogniser's words as transcripts.
        out: JSON file for the figures and each utterance's own.
        split: Which to measure, or ``all``.

    Raises:
        InputError: If a manifest cannot be read, or none of its utterances is among those expected.
    """
    if out is not None:
        check_target(out, [path for path in (expected, replies, cascade, repeated, heard) if path is not None])
    known = {key: u for key, u in _read(expected, split).items() if u.response and words(u.transcript or "")}
    if len(known) < 2:
        raise InputError(f"{expected} has fewer than two utterances of split {split} with transcript and response")
    figures: dict[str, Any] = {"utterances": len(known)}
    rows: dict[Key, dict[str, Any]] = {key: {"corpus": key[0], "id": key[1]} for key in known}
    for name, path in (("repeated", repeated), ("heard", heard)):
        if path is not None:
            said = {key: u.response if name == "repeated" else u.transcript for key, u in _read(path, split).items()}
            figures[f"word_error_rate_{name}"] = _word_errors(known, said, path, name, rows)
    figures["likeness_floor"] = mean(_likeness(known, _of_others(known), expected, "floor", rows))
    for name, path in (("cascade", cascade), ("replies", replies)):
        if path is not None:
            said = {key: u.response for key, u in _read(path, split).items()}
            figures[f"likeness_{name}"] = mean(_likeness(known, said, path, name, rows))
    figures |= _shares(figures)
    if out is not None:
        write_json(out, {**figures, "each": list(rows.values())})
    for name, value in figures.items():
        print(f"{name:<34}{_shown(value)}")
    return figures


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _read(path: Path, split: str) -> dict[Key, Utterance]:
    return {(u.corpus, u.id): u for u in read_chosen(path, split, most=1.0, audio=False)}


def _of_others(known: Mapping[Key, Utterance]) -> dict[Key, str | None]:
    """For each utterance the reply to the next one's transcript."""
    keys = list(known)
    return {key: known[other].response for key, other in zip(keys, [*keys[1:], keys[0]], strict=True)}


def _common(known: Mapping[Key, Utterance], said: Mapping[Key, str | None], path: Path) -> list[Key]:
    found = [key for key in known if said.get(key) is not None]
    if not found:
        raise InputError(f"{path} has none of the utterances that are expected")
    return found


def _likeness(
    known: Mapping[Key, Utterance],
    said: Mapping[Key, str | None],
    path: Path,
    name: str,
    rows: Mapping[Key, dict[str, Any]],
) -> list[float]:
    values = []
    for key in _common(known, said, path):
        values.append(chrf([said[key] or ""], [known[key].response or ""]))
        rows[key][f"likeness_{name}"] = round(values[-1], 4)
    return values


def _word_errors(
    known: Mapping[Key, Utterance],
    said: Mapping[Key, str | None],
    path: Path,
    name: str,
    rows: Mapping[Key, dict[str, Any]],
) -> dict[str, float]:
    from torchaudio.functional import edit_distance

    errors: list[float] = []
    lengths: list[float] = []
    for key in _common(known, said, path):
        wanted = words(known[key].transcript or "")
        errors.append(edit_distance(words(said[key] or ""), wanted))
        lengths.append(len(wanted))
        rows[key][f"word_errors_{name}"], rows[key]["words"] = errors[-1], lengths[-1]
    return ratio(errors, lengths)


def _shares(figures: Mapping[str, Any]) -> dict[str, float]:
    """How far from the floor the replies come: to 1, and to the cascade."""
    floor, shares = figures["likeness_floor"]["value"], {}
    for name, top in (("to_1", 1.0), ("to_cascade", figures.get("likeness_cascade", {}).get("value"))):
        if "likeness_replies" in figures and top is not None and top > floor:
            shares[f"share_from_floor_{name}"] = round(
                (figures["likeness_replies"]["value"] - floor) / (top - floor), 4
            )
    return shares
