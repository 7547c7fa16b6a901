"""What was recognised, as a page to look at."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from empathy_lightning.evaluation import report
from empathy_lightning.evaluation.recognised import class_rows, columns, speaker_rows
from empathy_lightning.evaluation.recognisers import Recognition
from empathy_lightning.hub import local_folder
from empathy_lightning.metrics.emotion import Recognised
from empathy_lightning.utterance import RATINGS

_SHOWN = ("unweighted_accuracy", "weighted_accuracy", "macro_f1", "calibration_error")
_OF_RATINGS = ("concordance", "pearson", "mean_squared_error")


def emotion_pictures(measured: Mapping[str, Any], recognised: Recognised) -> str:
    """Confusion matrix, reliability curve and scatter of the ratings, as far as there are such figures.

    Args:
        measured: Figures of ``recognised``.
        recognised: What they were measured on.
    """
    counts = torch.tensor(measured["confusion"])
    if not counts[:, -1].any():
        # The last column counts answers that name no emotion.
        counts = counts[:, :-1]
    figure = report.confusion_matrix(counts, measured["emotions"])
    pictures = report.picture(figure, "confusion matrix")
    if "reliability" in measured:
        pictures += report.picture(report.reliability_curve(measured["reliability"]), "reliability curve")
    for name, (heard, rated) in recognised.ratings.items():
        known = []
        for told, stated, group in zip(heard, rated, recognised.true, strict=True):
            if told is not None and stated is not None:
                known.append((told, stated, group))
        if known:
            own, true, groups = zip(*known, strict=True)
            scatter = report.rating_scatter({name: torch.tensor(own)}, {name: torch.tensor(true)}, groups)
            pictures += report.picture(scatter, f"{name}, heard against rated")
    return pictures


def figure_rows(measured: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Names and values of the single figures."""
    keys = [*_SHOWN, *(f"{kind}_{name}" for kind, name in product(_OF_RATINGS, RATINGS))]
    return [(key.replace("_", " "), measured[key]) for key in keys if key in measured]


def group_rows(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, int, float, float, float]]:
    """Kind and name, utterances, UA, WA and macro F1 of each group."""
    rows = []
    for kind, named in groups.items():
        for name, figures in named.items():
            values = (figures[key] for key in ("unweighted_accuracy", "weighted_accuracy", "macro_f1"))
            rows.append((f"{kind} {name}", figures["utterances"], *values))
    return rows


def write_report(path: Path, measured: dict[str, Any], recognitions: Sequence[Recognition], checkpoint: Path) -> None:
    """Write a page with the figures, the confusion, ratings, classes, speakers and the curves of the training.

    Args:
        path: The HTML file.
        measured: From :func:`.recognised.figures`.
        recognitions: What they were measured on.
        checkpoint: Folder whose ``training.json``, if it has one, gives the curves.
    """
    rows = figure_rows(measured)
    if "probe" in measured:
        rows.append(("unweighted accuracy of a linear probe", measured["probe"]["unweighted_accuracy"]))
    sections = [
        ("Figures", report.table(rows, ("", "value"))),
        ("What was heard", emotion_pictures(measured, columns(recognitions, measured["emotions"]))),
        ("Classes", report.table(class_rows(measured), ("emotion", "utterances", "recall", "precision", "F1"))),
        ("Speakers", report.table(speaker_rows(recognitions), ("speaker", "utterances", "recognised"))),
    ]
    # Behind the figures of all.
    if of_groups := group_rows(measured["groups"]):
        heads = ("", "utterances", "UA", "WA", "macro F1")
        sections.insert(1, ("Corpora and languages", report.table(of_groups, heads)))
    if "layers" in measured:
        shares = [(f"block {number}", share) for number, share in enumerate(measured["layers"], 1)]
        sections.append(("Layers that speak", report.table(shares, ("of the speech encoder", "share"))))
    training = local_folder(checkpoint) / "training.json"
    if training.is_file() and (history := json.loads(training.read_text(encoding="utf-8"))["history"]):
        sections.append(("Training", report.picture(report.curves({checkpoint.name: history}), "loss curves")))
    if measured["unreadable"]:
        sections.append(("Not read", f"<p>{'<br>'.join(map(html.escape, measured['unreadable']))}</p>"))
    note = f"{measured['utterances']} utterances, by {measured['by']}; {measured['unparseable']} answers unparseable."
    report.write_page(path, "Emotion, recognised", note, sections)
