"""Measure the replies of a manifest: figures on the screen and, with each reply's scores, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.corpora.manifest import read_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.reply_scores import (
    LEVELS,
    bert_scores,
    compare,
    empathy,
    load_classifiers,
    named_emotions,
    overlap,
    rounded,
    variety,
)
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.utterance import Utterance


def evaluate_responses(
    replies: Path,
    out: Path | None = None,
    split: str = "test",
    classifiers: Path | None = None,
    against: Path | None = None,
    references: Path | None = None,
    bert_model: str | None = None,
    bert_layer: int | None = None,
) -> dict[str, Any]:
    """Score a manifest of replies, print the figures and write them.

    Args:
        replies: Utterances whose responses are the replies, from ``respond`` or ``prepare responses``.
        out: JSON file with the figures and each reply's scores.
        split: Split to use, or ``all``.
        classifiers: Folder of EPITOME's classifiers; None measures no empathy.
        against: Another system's replies to the same utterances, for the test of the difference in empathy.
        references: Manifest whose responses are the expected ones; None measures no overlap.
        bert_model: Folder of an encoder for BERTScore; None leaves that out.
        bert_layer: See :func:`bert_scores`.

    Raises:
        InputError: If a file cannot be used, or an option needs another one.
    """
    if against is not None and classifiers is None:
        raise InputError("--against compares levels of empathy: give --empathy-classifier too")
    if bert_model is not None and references is None:
        raise InputError("BERTScore compares with expected responses: give --references too")
    utterances = _answered(replies, split)
    others = _by_name(_answered(against, "all")) if against else {}
    expected = _by_name(_answered(references, "all")) if references else {}
    _check_shared(utterances, others, against)
    _check_shared(utterances, expected, references)
    texts = [u.response or "" for u in utterances]
    rows: list[dict[str, Any]] = [{"corpus": u.corpus, "id": u.id, "reply": u.response} for u in utterances]
    figures: dict[str, Any] = {
        "replies": len(utterances),
        "without_words": sum(not text.strip() for text in texts),
        "cut": sum(u.response_cut for u in utterances),
        "variety": rounded(variety(texts)),
        "named_emotions": named_emotions(utterances),
    }
    # All that may be refused comes before EPITOME, which takes longest.
    loaded = load_classifiers(classifiers) if classifiers else {}
    if expected:
        figures["overlap"] = _measured_overlap(utterances, expected, bert_model, bert_layer, rows)
    if loaded:
        figures |= _measured_empathy(utterances, others, loaded, rows)
    print(table(figures))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{out.name}")
        partial.write_text(
            json.dumps(figures | {"scores": rows}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        partial.replace(out)
    return figures


def _answered(manifest: Path, split: str) -> list[Utterance]:
    utterances = [u for u in read_manifest(manifest) if split in ("all", u.split) and u.response is not None]
    if not utterances:
        raise InputError(f"{manifest} has no responses in split {split}; --split all takes every one")
    return utterances


def _by_name(utterances: Sequence[Utterance]) -> dict[tuple[str, str], Utterance]:
    return {(u.corpus, u.id): u for u in utterances}


def _check_shared(utterances: Sequence[Utterance], others: dict[tuple[str, str], Utterance], path: Path | None) -> None:
    if path is not None and not any((u.corpus, u.id) in others for u in utterances):
        raise InputError(f"{path} has no response to any of these utterances: corpora and ids have to agree")


def _measured_empathy(
    utterances: Sequence[Utterance],
    others: dict[tuple[str, str], Utterance],
    classifiers: dict[str, EmpathyClassifier],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    """Figures by mechanism and of the comparison; the levels are added to the rows."""
    figures: dict[str, Any] = {"empathy": {}, **({"against": {}} if others else {})}
    shared = [i for i, u in enumerate(utterances) if (u.corpus, u.id) in others]
    for name, classifier in classifiers.items():
        what = name.replace("_", " ")
        measured = empathy(classifier, utterances, what=what)
        figures["empathy"][name] = measured.figures()
        for row, level, cut in zip(rows, measured.levels, measured.truncated, strict=True):
            row[name], row["truncated"] = level, cut or row.get("truncated", False)
        if others:
            theirs = [others[utterances[i].corpus, utterances[i].id] for i in shared]
            compared = empathy(classifier, theirs, what=f"{what}, the other system").levels
            figures["against"][name] = compare([measured.levels[i] for i in shared], compared)
    return figures


def _measured_overlap(
    utterances: Sequence[Utterance],
    expected: dict[tuple[str, str], Utterance],
    bert_model: str | None,
    bert_layer: int | None,
    rows: list[dict[str, Any]],
) -> dict[str, float]:
    """Figures over the replies that have an expected response; BERTScores are added to the rows."""
    shared = [i for i, u in enumerate(utterances) if (u.corpus, u.id) in expected]
    replies = [utterances[i].response or "" for i in shared]
    references = [expected[utterances[i].corpus, utterances[i].id].response or "" for i in shared]
    figures = overlap(replies, references)
    if bert_model is not None:
        scores = bert_scores(replies, references, bert_model, bert_layer)
        figures["bert_score"] = sum(scores) / len(scores)
        for i, score in zip(shared, scores, strict=True):
            rows[i]["bert_score"] = round(score, 6)
    return {"references": len(shared), **rounded(figures)}


def table(figures: dict[str, Any]) -> str:
    """The figures for the screen."""
    lines: list[str] = []
    for name, measured in figures.get("empathy", {}).items():
        if not lines:
            lines.append(f"{'empathy (EPITOME)':<26}{'mean (sd)':>14}" + "".join(f"{n:>10}" for n in (*LEVELS, "cut")))
        if not measured["replies"]:
            lines.append(f"{name.replace('_', ' '):<26}{'no transcripts':>14}")
            continue
        shares = "".join(f"{measured[key]:>10.3f}" for key in (*LEVELS, "truncated"))
        spread = f"{measured['mean']:.3f} ({measured['standard_deviation']:.3f})"
        lines.append(f"{name.replace('_', ' '):<26}{spread:>14}{shares}")
    for name, compared in figures.get("against", {}).items():
        what = f"{name.replace('_', ' ')}, difference"
        lines.append(f"{what:<34}{compared['difference']:>+6.3f}  p = {compared['p']:.3g} ({compared['pairs']} pairs)")
    for group, values in figures.items():
        if group in ("empathy", "against") or values is None:
            continue
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            what = f"{group} {name}".replace("_", " ").strip()
            lines.append(f"{what:<34}{value:>8.3f}" if isinstance(value, float) else f"{what:<34}{value:>8}")
    return "\n".join(lines)
