"""Figures over the measures of spoken replies, each with its 95 % interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.statistics import mean, ratio
from empathy_lightning.evaluation.styles import FEATURES, StyleClassifier

Row = dict[str, Any]

_UNITS = {"f0_mean": "Hz", "f0_range": "Hz", "energy": "dB", "energy_range": "dB", "rate": "words/s"}


def summary(rows: Sequence[Row], training: Sequence[Row], mute: int = 0) -> dict[str, Any]:
    """All figures of the replies; those for which nothing was measured are left out.

    Args:
        rows: Of the replies, see :func:`.speech_measures.measured`; the style that is heard is added to them.
        training: Rows that tell what the styles sound like.
        mute: Replies without speech, which no figure can count.
    """
    readable = [row for row in rows if "unreadable" not in row]
    figures: dict[str, Any] = {
        "replies": len(rows),
        "without_speech": mute,
        "unreadable": len(rows) - len(readable),
        "without_voice": sum(row["prosody"] is None for row in readable),
    }
    return figures | _words(readable) | _against_targets(readable) | _scores(readable) | _styles(readable, training)


def _words(rows: Sequence[Row]) -> dict[str, Any]:
    heard = [row["speech"] for row in rows if row.get("speech")]
    found: dict[str, Any] = {}
    for unit, name in (("words", "word"), ("characters", "character")):
        if sum(said[unit] for said in heard):
            errors = [said[f"{name}_errors"] for said in heard]
            found[f"{name}_error_rate"] = ratio(errors, [said[unit] for said in heard])
    return found


def _against_targets(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean absolute differences from the target recordings; of the length, as a share of the target's."""
    paired = [row for row in rows if "target" in row]
    if not paired:
        return {}
    lengths = [(row["seconds"], row["target"]["seconds"]) for row in paired]
    found = {
        "duration_error": mean([abs(own - target) / target for own, target in lengths]),
        "duration_ratio": ratio(*zip(*lengths, strict=True)),
    }
    voiced = [(row["prosody"], row["target"]["prosody"]) for row in paired]
    voiced = [(own, target) for own, target in voiced if own and target]
    for name in FEATURES if voiced else ():
        found[f"{name}_error"] = mean([abs(own[name] - target[name]) for own, target in voiced])
    return found


def _scores(rows: Sequence[Row]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row if name.startswith(("dnsmos", "distillmos", "speaker_")))
    return {name: mean([row[name] for row in rows if name in row]) for name in names}


def _styles(rows: Sequence[Row], training: Sequence[Row]) -> dict[str, Any]:
    """How often the style is heard, and what each style's replies sound like beside its training replies."""
    known = [row for row in training if row.get("prosody") and row["style"]]
    try:
        classifier = StyleClassifier([row["prosody"] for row in known], [row["style"] for row in known])
    except InputError as error:
        return {"style": {"left_out": str(error)}}
    asked = [row for row in rows if row["style"] in classifier.styles]
    if not asked:
        return {"style": {"left_out": "no reply has one of the training replies' styles"}}
    for row in asked:
        row["heard_style"] = row["prosody"] and classifier(row["prosody"])
    counts = Counter((row["style"], row["heard_style"]) for row in asked)
    return {
        "style": {
            "accuracy": mean([float(row["style"] == row["heard_style"]) for row in asked]),
            "training_replies": len(known),
            "styles": classifier.styles,
            "confusion": [[counts[own, heard] for heard in (*classifier.styles, None)] for own in classifier.styles],
        },
        "styles": {style: _sounds_like(style, asked, known) for style in classifier.styles},
    }


def _sounds_like(style: str, rows: Sequence[Row], training: Sequence[Row]) -> dict[str, Any]:
    own = [row["prosody"] for row in rows if row["style"] == style and row["prosody"]]
    target = [row["prosody"] for row in training if row["style"] == style]
    found: dict[str, Any] = {"replies": len(own)}
    for name in FEATURES if own else ():
        means = [sum(figures[name] for figures in group) / len(group) for group in (own, target)]
        found[name] = {"reply": round(means[0], 4), "target": round(means[1], 4)}
    return found


def table(figures: dict[str, Any]) -> str:
    """The figures for the screen."""
    counted = ("replies", "without_speech", "unreadable", "without_voice")
    lines = [f"{name.replace('_', ' '):<26}{figures[name]:>8}" for name in counted]
    single = {name: value for name, value in figures.items() if isinstance(value, dict) and "value" in value}
    style = figures.get("style", {})
    if "accuracy" in style:
        single["style heard right"] = style["accuracy"]
    for name, value in single.items():
        said = f"{value['value']:>8.3f}  ({value['low']:.3f} to {value['high']:.3f}, {value['replies']} replies)"
        lines.append(f"{name.replace('_', ' '):<26}{said}")
    if "left_out" in style:
        lines.append(f"style: {style['left_out']}")
    if styles := figures.get("styles"):
        lines.append(f"\n{'reply / style':<16}" + "".join(f"{f'{name} {_UNITS[name]}':>22}" for name in FEATURES))
        for name, means in styles.items():
            cells = [f"{means[key]['reply']:.1f} / {means[key]['target']:.1f}" for key in FEATURES if key in means]
            lines.append(f"{name:<16}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)
