"""What was recognised, as figures, as lines for the screen and as rows of a report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from empathy_lightning.evaluation.recognisers import Recognition
from empathy_lightning.metrics.classification import f1_scores, precisions, recalls
from empathy_lightning.metrics.emotion import Recognised
from empathy_lightning.metrics.emotion_table import group_table
from empathy_lightning.utterance import RATINGS


def columns(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> Recognised:
    """What is true and what was recognised, side by side."""
    ratings = {}
    for name in RATINGS:
        heard = [r.ratings.get(name) for r in recognitions]
        ratings[name] = (heard, [getattr(r.utterance, name) for r in recognitions])
    shares = [r.probabilities for r in recognitions] if all(r.probabilities for r in recognitions) else ()
    true = [r.utterance.emotion or "" for r in recognitions]
    return Recognised(emotions, true, [r.emotion for r in recognitions], shares, ratings)


def figures(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> dict[str, Any]:
    """Those of :func:`.metrics.emotion.emotion_figures`, with groups and layers.

    ``groups`` are the same of each corpus and language, ``layers`` the shares of the speech encoder's, where known.
    """
    recognised = columns(recognitions, emotions)
    groups = {}
    for kind in ("corpus", "language"):
        named = recognised.by([getattr(r.utterance, kind) for r in recognitions])
        if named:
            groups[kind] = named
    measured = {**recognised.figures(), "groups": groups}
    if recognitions and recognitions[0].layers:
        shares = torch.tensor([recognition.layers for recognition in recognitions]).mean(0)
        measured["layers"] = [round(share, 4) for share in shares.tolist()]
    return measured


def table(measured: Mapping[str, Any]) -> str:
    """The figures for the screen: rows of pool and groups, the confusion, and what was left out."""
    lines = [group_table(measured, measured["groups"])]
    lines.append(f"{measured['unparseable']} of {measured['utterances']} answers unparseable")
    if len(measured["recalls"]) == 1:
        lines.append(f"every utterance is {next(iter(measured['recalls']))}: UA is the recall of that alone")
    if "probe" in measured:
        lines.append(probe_line(measured["probe"]))
    lines += _confusion_lines(measured)
    if unread := len(measured.get("unreadable", ())):
        lines.append(f"unreadable, not counted: {unread} of {unread + measured['utterances']} recordings")
    return "\n".join(lines)


def _confusion_lines(measured: Mapping[str, Any]) -> list[str]:
    names = [*measured["emotions"], "none"]
    width = max(map(len, names)) + 2
    lines = [f"{'':<{width}}" + "".join(f"{name:>{width}}" for name in names)]
    for name, row in zip(measured["emotions"], measured["confusion"], strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>{width}}" for count in row))
    return lines


def probe_line(probe: Mapping[str, float]) -> str:
    """What a linear probe heard, for the screen."""
    chosen = f"penalty {probe['penalty']}, chosen on validation with {probe['validation']:.3f}"
    return f"UA {probe['unweighted_accuracy']:.3f} by a linear probe of the speech encoder's layers ({chosen})"


def class_rows(measured: Mapping[str, Any]) -> list[tuple[str, int, float, float, float]]:
    """Name, utterances, recall, precision and F1 of each class that occurs, from the figures."""
    counts = torch.tensor(measured["confusion"])
    each = torch.stack([recalls(counts), precisions(counts).nan_to_num(0.0), f1_scores(counts)], 1).tolist()
    rows = []
    for name, total, values in zip(measured["emotions"], counts.sum(1).tolist(), each, strict=True):
        if total:
            rows.append((name, total, *values))
    return rows


def speaker_rows(recognitions: Sequence[Recognition]) -> list[tuple[str, int, float]]:
    """Speaker (with the corpus where there are several), utterances and share recognised, the lowest share first."""
    right = defaultdict(list)
    several = len({recognition.utterance.corpus for recognition in recognitions}) > 1
    for recognition in recognitions:
        speaker = recognition.utterance.speaker or "unknown"
        known = f"{recognition.utterance.corpus} {speaker}" if several else speaker
        right[known].append(recognition.emotion == recognition.utterance.emotion)
    rows = []
    for speaker, answers in right.items():
        rows.append((speaker, len(answers), sum(answers) / len(answers)))
    return sorted(rows, key=lambda row: (row[2], row[0]))
