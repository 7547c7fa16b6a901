"""What the emotion embedding is worth to the language model, told by the model itself: no judge, no reference.

The frozen model's reply to the transcript with the true label is taken as it is; along it, its next-token
distributions under other prompts are compared with those under that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import LONGEST
from empathy_lightning.checkpoints import load
from empathy_lightning.data.batch import SpeechBatch, SpeechDataset
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.decoding import Decoding
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.made_from import digests_of
from empathy_lightning.evaluation.recognisers import readable_batches
from empathy_lightning.evaluation.statistics import intervals
from empathy_lightning.files import check_target, write_json
from empathy_lightning.filled_prompt import FilledPrompt, Turn
from empathy_lightning.folders import read_config
from empathy_lightning.listener import Heard
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.progress import progress_bar
from empathy_lightning.responder import Responder
from empathy_lightning.slots import (
    HeardEmotion,
    HeardSpeech,
    PredictedLabel,
    RandomLabel,
    SlotFiller,
    Transcript,
    TrueLabel,
)


@dataclass(frozen=True)
class Condition:
    """What a prompt is filled with.

    Attributes:
        says: In words, for the table.
        speech: Fills ``{speech}``.
        emotion: Fills ``{emotion}``.
    """

    says: str
    speech: SlotFiller
    emotion: SlotFiller


@dataclass(frozen=True)
class Compared:
    """One utterance's reply under all conditions.

    Attributes:
        id: Of the utterance.
        tokens: Of the reply, its end included.
        divergence: Summed over the tokens, in nats, by condition: KL of the distributions under the true label from
            those under the condition.
    """

    id: str
    tokens: int
    divergence: dict[str, float]


def conditions(seed: int = 0) -> dict[str, Condition]:
    """The prompts that are compared, by letter; ``d`` is the floor and ``e`` the goal."""
    return {
        "a": Condition("speech, embedding", HeardSpeech(), HeardEmotion()),
        "b": Condition("transcript, embedding", Transcript(), HeardEmotion()),
        "c": Condition("transcript, predicted label", Transcript(), PredictedLabel()),
        "d": Condition("transcript, random label", Transcript(), RandomLabel(seed)),
        "e": Condition("transcript, true label", Transcript(), TrueLabel()),
    }


def evaluate_prompts(
    checkpoint: Path,
    manifest: Path,
    split: str = "validation",
    max_new_tokens: int = 64,
    batch_size: int = 8,
    seed: int = 0,
    out: Path | None = None,
    report: Path | None = None,
    trust: Sequence[str] = (),
    max_left_out: float = MOST,
) -> dict[str, Any]:
    """Measure how near each prompt comes to the true label's, print the table, and write it.

    Args:
        checkpoint: Folder of a bot whose emotion nuance module fills the prompt's emotion slot.
        manifest: Utterances with transcripts and emotions.
        split: Split to use, or ``all``.
        max_new_tokens: Of each reply.
        batch_size: Utterances of like length that are read together.
        seed: Of the random labels.
        out: JSON file for figures and utterances.
        report: HTML page of the table.
        trust: Packages besides this library whose classes the folder may name.
        max_left_out: Share of the utterances that may be left out.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    if min(batch_size, max_new_tokens) < 1:
        raise InputError("batch_size and max_new_tokens have to be at least 1")
    check_target(out, [manifest])
    check_target(report, [manifest, out])
    emotions = read_config(checkpoint)["model"]["init_args"].get("emotions", [])
    chosen = read_chosen(manifest, split, max_left_out, emotions=emotions)
    if not chosen:
        raise InputError(f"{manifest} has no utterance in split {split} with one of {', '.join(emotions)}")
    model = load(checkpoint, trust).to(own_device())
    asked = conditions(seed)
    check_bot(model, asked)
    compared: list[Compared] = []
    unreadable: list[str] = []
    with progress_bar(total=len(chosen), what="comparing prompts") as progress:
        for batch, _ in readable_batches(SpeechDataset(chosen, LONGEST), emotions, unreadable, batch_size):
            compared += compare(model, batch.to(model.device), asked, max_new_tokens)
            # As soon as it is too much, and not after the last batch.
            refuse_lost([("unreadable", reason) for reason in unreadable], len(chosen), max_left_out)
            progress.update(len(compared) + len(unreadable) - progress.n)
    if not compared:
        raise InputError(f"none of {len(chosen)} utterances can be read, for example {unreadable[0]}")
    options = {"split": split, "max_new_tokens": max_new_tokens, "seed": seed}
    made_from = digests_of(checkpoint, manifest, chosen) | options
    measured = {"made_from": made_from, "unreadable": unreadable, **figures(compared, asked)}
    _write(measured, compared, split, out, report)
    return measured


def _write(
    measured: dict[str, Any], compared: Sequence[Compared], split: str, out: Path | None, report: Path | None
) -> None:
    print(table(measured))
    if out is not None:
        write_json(out, measured | {"utterances": [vars(row) for row in compared]})
    if report is not None:
        write_report(report, measured, f"{len(compared)} utterances of the split {split}")
        print(f"report: {report}")


def check_bot(model: EmpatheticLM, asked: dict[str, Condition]) -> None:
    """Leave out the predicted label where no classifier was trained.

    Args:
        model: The bot.
        asked: What is compared; is changed.

    Raises:
        InputError: If the bot does not answer, or has no emotion embedding or no slot for it.
    """
    responder, listener = model.responder, model.listener
    if responder is None or not listener.fills_emotion_slot:
        raise InputError("this folder's bot puts no emotion embedding into its prompt: give one of stage 2 or later")
    if "{emotion}" not in responder.asked().user:
        raise InputError("this folder's prompt has no {emotion} slot: give a bot that was trained with one")
    if "categorical" in listener.untrained_heads:
        del asked["c"]


@torch.no_grad()
def compare(
    model: EmpatheticLM, batch: SpeechBatch, asked: dict[str, Condition], max_new_tokens: int
) -> list[Compared]:
    """The replies to a batch under all conditions; each prompt is read once.

    Args:
        model: The bot.
        batch: Waveforms (B, T) with transcripts and emotions.
        asked: Conditions, ``e`` among them.
        max_new_tokens: Of each reply.
    """
    responder = model.responder
    assert responder is not None
    heard = model.listener(batch)
    # All prompts are read with this one reply behind them, so that token stands against token.
    goal = filled(responder, batch, heard, asked["e"])
    replies = [written.tokens for written in responder.write(goal, Decoding(max_new_tokens))]
    wanted = responder.states(goal, replies)
    found = {}
    for name, condition in asked.items():
        if name != "e":
            found[name] = responder.states(filled(responder, batch, heard, condition), replies)
    compared = []
    for row, reply in enumerate(replies):
        # Of one utterance at a time: a large vocabulary's scores are the largest tensor here.
        expected = log_probabilities(responder, wanted[row])
        divergence = {}
        for name, states in found.items():
            # KL in nats, summed over tokens and vocabulary (T, V).
            difference = expected - log_probabilities(responder, states[row])
            divergence[name] = float((expected.exp() * difference).sum())
        compared.append(Compared(batch.ids[row], len(reply), divergence | {"e": 0.0}))
    return compared


def filled(responder: Responder, batch: SpeechBatch, heard: Heard, condition: Condition) -> list[FilledPrompt]:
    """Prompts of a batch under a condition."""
    slots = zip(condition.speech(batch, heard), condition.emotion(batch, heard), strict=True)
    return responder.fill([[Turn(*slot)] for slot in slots], batch.prompts)


def log_probabilities(responder: Responder, states: Tensor) -> Tensor:
    """Log-probabilities (T, V) of the next tokens after hidden states (T, D), in float32."""
    return responder.language_model.logits(states).float().log_softmax(-1)


def figures(compared: Sequence[Compared], asked: dict[str, Condition]) -> dict[str, Any]:
    """Divergence per token and share of the way from ``d`` to ``e`` of each condition, with intervals."""
    tokens = [float(row.tokens) for row in compared]
    floor = [row.divergence["d"] for row in compared]
    rows = {}
    for name, condition in asked.items():
        own = [row.divergence[name] for row in compared]
        figure: dict[str, Any] = {"prompt": condition.says, "divergence": intervals.ratio(own, tokens)}
        if sum(floor) > 0:
            gone = [far - near for far, near in zip(floor, own, strict=True)]
            figure["share"] = intervals.ratio(gone, floor)
        rows[name] = figure
    return {"replies": len(compared), "tokens": int(sum(tokens)), "conditions": rows}


_HEAD = ("", "prompt", "KL per token (nats)", "95 %", "share of the way", "95 %")


def table_rows(measured: dict[str, Any]) -> list[tuple[str, ...]]:
    """Cells of the table."""
    rows = []
    for name, figure in measured["conditions"].items():
        cells = [name, figure["prompt"]]
        for key in ("divergence", "share"):
            value = figure.get(key)
            if value is None:
                cells += ["", ""]
            else:
                cells += [f"{value['value']:.4f}", f"{value['low']:.4f} {value['high']:.4f}"]
        rows.append(tuple(cells))
    return rows


def table(measured: dict[str, Any]) -> str:
    """The figures for the screen."""
    rows = [_HEAD, *table_rows(measured)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.append(f"{measured['replies']} replies, {measured['tokens']} tokens")
    return "\n".join(lines)


def write_report(path: Path, measured: dict[str, Any], note: str) -> None:
    """Write the table as a page.

    Args:
        path: The HTML file.
        measured: From :func:`figures`.
        note: Under the title.
    """
    from empathy_lightning.evaluation import report

    report.write_page(
        path, "What the emotion embedding is worth", note, [("Prompts", report.table(table_rows(measured), _HEAD))]
    )
