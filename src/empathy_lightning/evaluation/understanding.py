"""Whether speech is understood: replies to it beside those to its transcript, and what is repeated of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.statistics import mean, ratio
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

    Likeness is chrF (0..1) of each reply and the reply to the transcript, averaged. The floor is that of the reply to
    another utterance's transcript (the next one's), and a share is how far from the floor to 1, or to the cascade, a
    reply comes. Only utterances that all the manifests have are measured. All replies should be of one frozen model,
    the likeliest words, of one longest length.

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
    known = {}
    for key, utterance in _read(expected, split).items():
        if utterance.response and words(utterance.transcript or ""):
            known[key] = utterance
    if len(known) < 2:
        raise InputError(f"{expected} has fewer than two utterances of split {split} with transcript and response")
    given = {"repeated": repeated, "heard": heard, "cascade": cascade, "replies": replies}
    said = {name: _said(path, split, name) for name, path in given.items() if path is not None}
    everywhere = _common(known, said, given)
    figures: dict[str, Any] = {"utterances": len(everywhere), "left_out": len(known) - len(everywhere)}
    rows: dict[Key, dict[str, Any]] = {key: {"corpus": key[0], "id": key[1]} for key in everywhere}
    for name in ("repeated", "heard"):
        if name in said:
            figures[f"word_error_rate_{name}"] = _word_errors(everywhere, said[name], name, rows)
    said["floor"] = _of_others(known)
    for name in ("floor", "cascade", "replies"):
        if name in said:
            figures[f"likeness_{name}"] = mean(_likeness(everywhere, said[name], name, rows))
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


def _said(path: Path, split: str, name: str) -> dict[Key, str]:
    """The words of a manifest that are measured: what a recogniser wrote down, or else the responses."""
    found: dict[Key, str] = {}
    for key, utterance in _read(path, split).items():
        text = utterance.transcript if name == "heard" else utterance.response
        if text is not None:
            found[key] = text
    return found


def _of_others(known: Mapping[Key, Utterance]) -> dict[Key, str]:
    """For each utterance the reply to the next one's transcript."""
    keys = list(known)
    others = [*keys[1:], keys[0]]
    return {key: known[other].response or "" for key, other in zip(keys, others, strict=True)}


def _common(
    known: Mapping[Key, Utterance], said: Mapping[str, Mapping[Key, str]], paths: Mapping[str, Path | None]
) -> dict[Key, Utterance]:
    """The utterances that every manifest has, so that all figures are of the same ones.

    Raises:
        InputError: If a manifest has none of them.
    """
    common = dict(known)
    for name, texts in said.items():
        common = {key: utterance for key, utterance in common.items() if key in texts}
        if not common:
            raise InputError(f"{paths[name]} has none of the utterances that are expected and in the other manifests")
    return common


def _likeness(
    known: Mapping[Key, Utterance], said: Mapping[Key, str], name: str, rows: Mapping[Key, dict[str, Any]]
) -> list[float]:
    values = []
    for key, utterance in known.items():
        values.append(chrf([said[key]], [utterance.response or ""]))
        rows[key][f"likeness_{name}"] = round(values[-1], 4)
    return values


def _word_errors(
    known: Mapping[Key, Utterance], said: Mapping[Key, str], name: str, rows: Mapping[Key, dict[str, Any]]
) -> dict[str, float]:
    from torchaudio.functional import edit_distance

    errors: list[float] = []
    lengths: list[float] = []
    for key, utterance in known.items():
        wanted = words(utterance.transcript or "")
        errors.append(edit_distance(words(said[key]), wanted))
        lengths.append(len(wanted))
        rows[key][f"word_errors_{name}"], rows[key]["words"] = errors[-1], lengths[-1]
    return ratio(errors, lengths)


def _shares(figures: Mapping[str, Any]) -> dict[str, float]:
    """How far from the floor the replies come: to 1, and to the cascade."""
    if "likeness_replies" not in figures:
        return {}
    floor, reached = figures["likeness_floor"]["value"], figures["likeness_replies"]["value"]
    tops = {"to_1": 1.0}
    if "likeness_cascade" in figures:
        tops["to_cascade"] = figures["likeness_cascade"]["value"]
    shares = {}
    for name, top in tops.items():
        if top > floor:
            shares[f"share_from_floor_{name}"] = round((reached - floor) / (top - floor), 4)
    return shares
