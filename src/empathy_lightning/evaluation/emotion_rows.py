"""Rows of the measures of emotion, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from empathy_lightning.evaluation.recognisers import Recognition
from empathy_lightning.metrics.emotion import Recognised
from empathy_lightning.utterance import RATINGS, Utterance


def expected_label(utterance: Utterance, where: str) -> str | None:
    """The emotion that a reply should carry, as it is spelt there.

    Args:
        utterance: The reply.
        where: ``emotion``, the user's own, or the name of a raw label.
    """
    return utterance.emotion if where == "emotion" else utterance.raw_labels.get(where)


def expected_field(where: str) -> str:
    """The field of an utterance that :func:`expected_label` reads."""
    return "emotion" if where == "emotion" else "raw_labels"


def emotion_row(found: Recognition) -> dict[str, Any]:
    """What was recognised in an utterance, as JSON values."""
    right = int(found.emotion == found.utterance.emotion)
    row: dict[str, Any] = {"emotion": found.emotion, "right": right, "answer": found.answer}
    if found.probabilities:
        row["probabilities"] = {name: round(share, 6) for name, share in found.probabilities.items()}
    if found.ratings:
        row["ratings"] = {name: round(value, 6) for name, value in found.ratings.items()}
    return row


def figures_of_rows(
    emotions: Sequence[str], replies: Sequence[Utterance], rows: Sequence[dict[str, Any] | None]
) -> dict[str, Any]:
    """The calculator's figures of the utterances that have a row.

    Args:
        emotions: Names of the categories.
        replies: With the true emotions and ratings.
        rows: Of :func:`emotion_row`, or with ``emotion`` alone.
    """
    return side_by_side(emotions, [truth_of(reply) for reply in replies], rows).figures()


def truth_of(reply: Utterance) -> dict[str, Any]:
    """What is true of an utterance, by name."""
    return {name: getattr(reply, name) for name in ("emotion", *RATINGS)}


def side_by_side(
    emotions: Sequence[str], true: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any] | None]
) -> Recognised:
    """What is true and what was heard of the utterances that have a row.

    Args:
        emotions: Names of the categories.
        true: ``emotion`` and the ratings of each utterance.
        rows: As for :func:`figures_of_rows`.
    """
    pairs = [(facts, row) for facts, row in zip(true, rows, strict=True) if row is not None]
    shares = [row.get("probabilities") or {} for _, row in pairs]
    ratings = {}
    for name in RATINGS:
        heard = [row.get("ratings", {}).get(name) for _, row in pairs]
        ratings[name] = (heard, [facts[name] for facts, _ in pairs])
    labels = [facts["emotion"] or "" for facts, _ in pairs]
    named = [row["emotion"] for _, row in pairs]
    # Calibration is told of all answers or of none.
    known_shares = shares if all(shares) else ()
    return Recognised(emotions, labels, named, known_shares, ratings)
