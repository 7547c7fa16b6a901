"""Measure a bot on a test split: metrics.json, a table on the screen and report.html."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch

from empathy_lightning.audio import SAMPLE_RATE, read, write
from empathy_lightning.chatbot import EmpatheticChatbot, Reply
from empathy_lightning.corpora import CorpusError
from empathy_lightning.data.left_out import MOST
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, folder_digest
from empathy_lightning.files import check_folder, check_target, write_json
from empathy_lightning.hub import local_folder
from empathy_lightning.small_world.figures import (
    HeardQuestions,
    emotion_figures,
    hear_all,
    reply_figures,
    speech_figures,
)
from empathy_lightning.utterance import RATINGS, Utterance

_ABLATIONS = {
    "random_emotion": "with another question's emotion embedding",
    "true_label": "with the true label for the embedding",
    "transcript": "with the transcript for speech",
    "transcript_true_label": "with transcript and true label",
    "transcript_random_label": "with transcript and random label",
}
"""What the language model is given, in words."""


def evaluate(
    checkpoint: Path,
    manifest: Path,
    out: Path,
    stages: Sequence[Path] = (),
    talks: int = 5,
    trust: Sequence[str] = (),
    max_left_out: float = MOST,
) -> dict[str, Any]:
    """Measure a chatbot of the small world and write a report.

    The prosody is that of the expected responses, so that the bot and the target say the same words.

    Args:
        checkpoint: Folder of the bot.
        manifest: Utterances with responses, and their speech for the prosody; the test split is used.
        out: Folder for ``metrics.json``, ``report.html`` and ``replies/``.
        stages: Folders of the training stages, for their curves and the check of the frozen weights.
        talks: Questions answered aloud at the end, one of each emotion first.
        trust: Packages besides this library whose classes the folder may name.
        max_left_out: Share of the utterances that may lack their audio file.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    check_target(out / "metrics.json", [manifest])
    check_target(out / "report.html", [manifest])
    check_folder(out / "replies")
    utterances = read_chosen(manifest, "test", max_left_out)
    if not utterances:
        raise CorpusError(f"{manifest} has no utterances in the test split")
    bot = EmpatheticChatbot.from_pretrained(checkpoint, trust=trust)
    heard = hear_all(bot, utterances)
    reply = reply_figures(bot, heard, utterances)
    trainings = {stage.name: json.loads((stage / "training.json").read_text()) for stage in stages}
    metrics: dict[str, Any] = {
        "made_from": {"manifest": digest(manifest), "checkpoint": folder_digest(local_folder(checkpoint))},
        "test_utterances": len(utterances),
        "emotion": emotion_figures(heard, utterances, bot.emotions),
        "reply": reply,
        "reply_speech": speech_figures(bot, utterances),
        "frozen_weights_unchanged": {name: training["frozen_unchanged"] for name, training in trainings.items()},
    }
    write_json(out / "metrics.json", metrics)
    chosen = choose(utterances, bot.emotions, talks)
    answers = [answer_aloud(bot, utterance, out) for utterance in chosen]
    _write_report(out, metrics, bot, heard, utterances, chosen, answers, trainings)
    print("\n".join(f"{name:<64}{value:>8.3f}" for name, value in summary(metrics)))
    print(f"report: {out / 'report.html'}")
    return metrics


def choose(utterances: Sequence[Utterance], emotions: Sequence[str], count: int) -> list[Utterance]:
    """Utterances to show: of each emotion in turn, in the order of the list."""
    groups: dict[str | None, list[Utterance]] = {emotion: [] for emotion in emotions}
    for utterance in utterances:
        if utterance.emotion in groups:
            groups[utterance.emotion].append(utterance)
    # The first of each group, then the second of each, ...; a group that is at its end gives none.
    in_turn = chain.from_iterable(zip_longest(*groups.values()))
    return [utterance for utterance in in_turn if utterance is not None][:count]


def answer_aloud(bot: EmpatheticChatbot, utterance: Utterance, out: Path) -> Reply:
    """Answer one question, print it and write its speech."""
    (reply,) = bot.respond([utterance.path])
    path = out / "replies" / f"{utterance.id}_reply.wav"
    if reply.waveform is not None and reply.sample_rate is not None:
        write(path, reply.waveform, reply.sample_rate)
    print(f"{utterance.path}\n  said     {utterance.transcript} ({utterance.emotion})")
    print(f"{reply}\n  speech   {path}")
    return reply


def summary(metrics: dict[str, Any]) -> list[tuple[str, float]]:
    """The figures that matter, named."""
    emotion, reply, speech = metrics["emotion"], metrics["reply"], metrics["reply_speech"]
    rows = [("emotion: unweighted accuracy", emotion["unweighted_accuracy"])]
    rows += [(f"emotion: concordance of {name}", emotion[f"concordance_{name}"]) for name in RATINGS]
    rows += [
        ("reply: right emotion", reply["emotion_accuracy"]),
        ("reply: right content words", reply["content_accuracy"]),
        ("reply: right emotion, own embedding over true label", reply["own_to_true_label"]),
    ]
    for name, shares in reply["ablations"].items():
        rows.append((f"right emotion {_ABLATIONS[name]}", shares["emotion_accuracy"]))
        rows.append((f"right content words {_ABLATIONS[name]}", shares["content_accuracy"]))
    for key, label in (("f0_mean", "mean F0"), ("f0_range", "F0 range"), ("rate", "rate")):
        rows.append((f"reply speech: {label}, correlation with target", speech[f"{key}_correlation"]))
        rows.append((f"reply speech: {label}, pairs in same direction", speech[f"{key}_same_direction"]))
    return rows


def _write_report(
    out: Path,
    metrics: dict[str, Any],
    bot: EmpatheticChatbot,
    heard: HeardQuestions,
    utterances: Sequence[Utterance],
    chosen: Sequence[Utterance],
    answers: Sequence[Reply],
    trainings: dict[str, Any],
) -> None:
    from empathy_lightning.evaluation import report

    predicted = {name: getattr(heard.emotion, name) for name in RATINGS}
    target = {name: torch.tensor([getattr(u, name) for u in utterances]) for name in RATINGS}
    scatter = report.rating_scatter(predicted, target, [u.emotion or "" for u in utterances])
    matrix = report.confusion_matrix(torch.tensor(metrics["emotion"]["confusion"])[:, :-1], bot.emotions)
    styles = []
    for style, kinds in metrics["reply_speech"]["styles"].items():
        row: list[Any] = [style]
        for key in ("f0_mean", "f0_range", "rate"):
            row += [kinds["spoken"][key], kinds["target"][key]]
        styles.append(row)
    head = ["style", "mean F0", "target", "F0 range", "target", "words/s", "target"]
    sections = [
        ("Figures", report.table(summary(metrics), ("", "value"))),
        ("Conversations", "".join(talk(report, u, a) for u, a in zip(chosen, answers, strict=True))),
        ("Emotion and ratings", f"{report.picture(matrix, 'confusion')} {report.picture(scatter, 'ratings')}"),
        ("How the replies are spoken", report.table(styles, head)),
    ]
    if trainings:
        histories = {name: training["history"] for name, training in trainings.items()}
        sections.append(("Training", report.picture(report.curves(histories), "loss curves")))
    note = f"{len(utterances)} synthetic utterances: voices and sentences that no part was trained on."
    report.write_page(out / "report.html", "Empathetic chatbot, measured", note, sections)


def talk(report: Any, utterance: Utterance, reply: Reply) -> str:
    """One conversation as HTML: what was said and heard, the reply, players and spectrograms."""
    question = read(utterance.path)
    spoken = reply.waveform if reply.waveform is not None and len(reply.waveform) else torch.zeros(1_600)
    heard = (
        f"{reply.emotion}, arousal {reply.arousal:.2f}, valence {reply.valence:.2f}, dominance {reply.dominance:.2f}"
    )
    players = report.player(question, "question") + report.player(spoken, "reply", reply.sample_rate or SAMPLE_RATE)
    return (
        f'<section class="talk"><p><b>User</b> ({utterance.emotion}): {html.escape(utterance.transcript or "")}</p>'
        f"<p><b>Heard</b>: {heard}</p><p><b>Bot</b>: {html.escape(reply.text)}</p>"
        f'<div class="side">{players}</div>'
        f"{report.picture(report.mel_pair(question, spoken), 'mel spectrograms')}</section>"
    )
