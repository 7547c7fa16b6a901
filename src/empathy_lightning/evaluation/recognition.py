"""How well a checkpoint recognises emotion: figures on the screen, as JSON and as an HTML page to look at."""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from empathy_lightning.audio import LONGEST
from empathy_lightning.checkpoints import load
from empathy_lightning.data.batch import SpeechBatch, SpeechDataset
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.probe import linear_probe
from empathy_lightning.evaluation.recognisers import Recognition, readable_batches, recogniser
from empathy_lightning.files import check_target, write_json
from empathy_lightning.folders import read_config
from empathy_lightning.jobs import digest, folder_digest, recordings_digest
from empathy_lightning.kept_speech import keep_encoded as keep_encoded_speech
from empathy_lightning.metrics import concordance, moments, unweighted_accuracy, weighted_accuracy
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.progress import progress_bar
from empathy_lightning.prompts import Prompt
from empathy_lightning.utterance import RATINGS, Utterance


def evaluate_emotion(
    checkpoint: Path,
    manifest: Path,
    question: Prompt,
    out: Path | None = None,
    report: Path | None = None,
    split: str = "test",
    by: str = "answer",
    parser: str = "words",
    per_token: bool = False,
    max_new_tokens: int = 32,
    trust: Sequence[str] = (),
    max_left_out: float = MOST,
    keep_encoded: Path | None = None,
    probe: bool = False,
    enrol: bool = False,
) -> dict[str, Any]:
    """Measure how well a checkpoint recognises emotion, print UA, WA and the confusion, and write them.

    Args:
        checkpoint: Folder of the bot or the recogniser.
        manifest: Utterances; those of the split whose emotion is one of the checkpoint's are used.
        question: What the bot is asked; takes the place of its prompt.
        out: JSON file with figures and answers.
        report: HTML page with plots.
        split: Split to use, or ``all``.
        by: ``answer`` parses the answer, ``options`` scores the categories' words, ``classifier`` takes the head's.
        parser: ``words`` or ``substring``.
        per_token: See :func:`~empathy_lightning.evaluation.recognisers.score_options`.
        max_new_tokens: Longest answer.
        trust: Packages besides this library whose classes the folder may name.
        max_left_out: Share of the utterances that may be left out, unreadable or with a label that is no emotion word.
        keep_encoded: Folder for :func:`.kept_speech.keep_encoded`.
        probe: Measure a linear probe of the encoder's layers too, see :func:`.probe.linear_probe`.
        enrol: Hear all recordings first, without their labels, to know the speakers' voices.

    Raises:
        InputError: If the checkpoint or the manifest cannot be used.
    """
    check_target(out, [manifest])
    check_target(report, [manifest, out])
    if probe and split in ("train", "validation", "all"):
        raise InputError("--probe fits on the training and chooses on the validation split: measure it on another one")
    emotions = read_config(checkpoint)["model"]["init_args"].get("emotions", [])
    chosen = read_chosen(manifest, split, max_left_out, emotions=emotions)
    if not chosen:
        raise InputError(f"{manifest} has no utterance in split {split} with one of {', '.join(emotions)}")
    probed = {"measured": chosen}
    for name in ("train", "validation") if probe else ():
        probed[name] = read_chosen(manifest, name, max_left_out, emotions=emotions)
    model = load(checkpoint, trust).to(own_device())
    if model.responder is not None:
        model.responder.prompt, model.responder.system = question.user, question.system
    kept = None if keep_encoded is None else keep_encoded_speech(model.listener, keep_encoded)
    dataset = SpeechDataset(chosen, LONGEST)
    for batch, _ in readable_batches(dataset, emotions, []) if enrol else ():
        model.listener.enrol(batch.to(model.device))
    recognise = recogniser(model, emotions, by, parser, per_token, max_new_tokens)
    recognitions, unreadable = _recognised(model, recognise, dataset, emotions, max_left_out)
    beside = {"probe": linear_probe(model.listener, probed, emotions)} if probe else {}
    if kept is not None:
        kept.write()
    if not recognitions:
        raise InputError(f"none of {len(chosen)} utterances can be read, for example {unreadable[0]}")
    asked = {"split": split, "by": by, "question": vars(question), "parser": parser, "per_token": per_token}
    asked |= {"max_new_tokens": max_new_tokens, "enrol": enrol}
    measured = {
        "made_from": _digests(checkpoint, manifest, chosen) | asked,
        "by": by,
        "question": vars(question),
        "unreadable": unreadable,
    }
    measured |= figures(recognitions, emotions) | beside
    print(table(measured))
    if out is not None:
        write_json(out, measured | {"answers": [_entry(recognition) for recognition in recognitions]})
    if report is not None:
        write_report(report, measured, recognitions, checkpoint)
        print(f"report: {report}")
    return measured


def _recognised(
    model: EmpatheticLM,
    recognise: Callable[[SpeechBatch, Sequence[Utterance]], list[Recognition]],
    dataset: SpeechDataset,
    emotions: Sequence[str],
    max_left_out: float,
) -> tuple[list[Recognition], list[str]]:
    """What was recognised in each utterance, and why others could not be read."""
    recognitions: list[Recognition] = []
    unreadable: list[str] = []
    count = len(dataset)
    with progress_bar(total=count, what="recognising emotion") as progress:
        for batch, utterances in readable_batches(dataset, emotions, unreadable):
            recognitions += recognise(batch.to(model.device), utterances)
            refuse_lost([("unreadable", reason) for reason in unreadable], count, max_left_out)
            progress.update(len(recognitions) + len(unreadable) - progress.n)
    refuse_lost([("unreadable", reason) for reason in unreadable], count, max_left_out)
    return recognitions, unreadable


def _digests(checkpoint: Path, manifest: Path, chosen: Sequence[Utterance]) -> dict[str, Any]:
    """What the figures were made from, by its content."""
    heard = [path for u in chosen for path in (u.path, u.emotion_path) if path]
    return {
        "manifest": digest(manifest),
        "recordings": recordings_digest(heard, manifest.parent),
        "checkpoint": folder_digest(checkpoint),
    }


def _entry(recognition: Recognition) -> dict[str, Any]:
    utterance = recognition.utterance
    said = {"answer": recognition.answer, "recognised": recognition.emotion}
    return {"id": utterance.id, "emotion": utterance.emotion, **said, **recognition.ratings}


def confusion(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> Tensor:
    """Counts, shape (classes, classes + 1): rows by reference, the last column holds the unparseable answers."""
    counts = torch.zeros(len(emotions), len(emotions) + 1, dtype=torch.long)
    for recognition in recognitions:
        column = len(emotions) if recognition.emotion is None else emotions.index(recognition.emotion)
        counts[emotions.index(recognition.utterance.emotion or ""), column] += 1
    return counts


def rated(recognitions: Sequence[Recognition], name: str) -> list[Recognition]:
    """Those with a rating of this name, in the reference and by the model."""
    return [r for r in recognitions if name in r.ratings and getattr(r.utterance, name) is not None]


def figures(recognitions: Sequence[Recognition], emotions: Sequence[str]) -> dict[str, Any]:
    """UA, WA, unparseable answers, which are wrong ones, the confusion, concordance of ratings, shares of layers."""
    counts = confusion(recognitions, emotions)
    measured = {
        "utterances": len(recognitions),
        "unweighted_accuracy": round(float(unweighted_accuracy(counts)), 6),
        "weighted_accuracy": round(float(weighted_accuracy(counts)), 6),
        "macro_f1": round(macro_f1(counts, emotions), 6),
        "unparseable": int(counts[:, -1].sum()),
        "emotions": list(emotions),
        "confusion": counts.tolist(),
    }
    for name in RATINGS:
        pairs = rated(recognitions, name)
        heard, true = [r.ratings[name] for r in pairs], [getattr(r.utterance, name) for r in pairs]
        value = concordance(moments(torch.tensor(heard), torch.tensor(true)))
        if value.isfinite():
            measured[f"concordance_{name}"] = round(float(value), 6)
    if recognitions and recognitions[0].layers:
        shares = torch.tensor([recognition.layers for recognition in recognitions]).mean(0)
        measured["layers"] = [round(share, 4) for share in shares.tolist()]
    return measured


def table(measured: dict[str, Any]) -> str:
    """The figures for the screen."""
    names, width = [*measured["emotions"], "none"], max(map(len, [*measured["emotions"], "none"])) + 2
    lines = [f"{'':<{width}}" + "".join(f"{name:>{width}}" for name in names)]
    for name, row in zip(measured["emotions"], measured["confusion"], strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{count:>{width}}" for count in row))
    unread = len(measured.get("unreadable", ()))
    agreed = "".join(f"  {name} {measured[key]:.3f}" for name in RATINGS if (key := f"concordance_{name}") in measured)
    return (
        f"UA {measured['unweighted_accuracy']:.3f}  WA {measured['weighted_accuracy']:.3f}  "
        f"macro F1 {measured['macro_f1']:.3f}  "
        f"{measured['unparseable']} of {measured['utterances']} answers unparseable\n"
        + (f"concordance:{agreed}\n" if agreed else "")
        + (probe_line(measured["probe"]) if "probe" in measured else "")
        + "\n".join(lines)
        + (f"\nunreadable, not counted: {unread} of {unread + measured['utterances']} recordings" if unread else "")
    )


def probe_line(probe: dict[str, float]) -> str:
    """What a linear probe heard, for the screen."""
    chosen = f"penalty {probe['penalty']}, chosen on validation with {probe['validation']:.3f}"
    return f"UA {probe['unweighted_accuracy']:.3f} by a linear probe of the speech encoder's layers ({chosen})\n"


def class_rows(counts: Tensor, emotions: Sequence[str]) -> list[tuple[str, int, float, float, float]]:
    """Name, utterances, recall, precision and F1 of each class that occurs; counts as of :func:`confusion`."""
    rows = []
    for index, name in enumerate(emotions):
        right, total, named = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
        if total:
            rows.append((name, total, right / total, right / max(1, named), 2 * right / (total + named)))
    return rows


def macro_f1(counts: Tensor, emotions: Sequence[str]) -> float:
    """Mean F1 of the classes that occur in the reference; counts as of :func:`confusion`."""
    scores = [f1 for *_, f1 in class_rows(counts, emotions)]
    return sum(scores) / max(1, len(scores))


def speaker_rows(recognitions: Sequence[Recognition]) -> list[tuple[str, int, float]]:
    """Speaker (with the corpus where there are several), utterances and share recognised, the lowest share first."""
    right = defaultdict(list)
    several = len({recognition.utterance.corpus for recognition in recognitions}) > 1
    for recognition in recognitions:
        speaker = recognition.utterance.speaker or "unknown"
        known = f"{recognition.utterance.corpus} {speaker}" if several else speaker
        right[known].append(recognition.emotion == recognition.utterance.emotion)
    rows = [(speaker, len(shares), sum(shares) / len(shares)) for speaker, shares in right.items()]
    return sorted(rows, key=lambda row: (row[2], row[0]))


def write_report(path: Path, measured: dict[str, Any], recognitions: Sequence[Recognition], checkpoint: Path) -> None:
    """Write a page with the figures, the confusion, ratings, classes, speakers and the curves of the training.

    Args:
        path: The HTML file.
        measured: From :func:`figures`.
        recognitions: What they were measured on.
        checkpoint: Folder whose ``training.json``, if it has one, gives the curves.
    """
    from empathy_lightning.evaluation import report

    emotions, counts = measured["emotions"], torch.tensor(measured["confusion"])
    figure = report.confusion_matrix(counts if counts[:, -1].any() else counts[:, :-1], emotions)
    pictures = report.picture(figure, "confusion matrix")
    names = [name for name in RATINGS if rated(recognitions, name)]
    for name in names:
        pairs = rated(recognitions, name)
        heard, true = [r.ratings[name] for r in pairs], [getattr(r.utterance, name) for r in pairs]
        groups = [r.utterance.emotion or "" for r in pairs]
        scatter = report.rating_scatter({name: torch.tensor(heard)}, {name: torch.tensor(true)}, groups)
        pictures += report.picture(scatter, f"{name}, heard against rated")
    keys = ["unweighted_accuracy", "weighted_accuracy", "macro_f1", *(f"concordance_{name}" for name in RATINGS)]
    rows = [(key.replace("_", " "), measured[key]) for key in keys if key in measured]
    if "probe" in measured:
        rows.append(("unweighted accuracy of a linear probe", measured["probe"]["unweighted_accuracy"]))
    sections = [
        ("Figures", report.table(rows, ("", "value"))),
        ("What was heard", pictures),
        ("Classes", report.table(class_rows(counts, emotions), ("emotion", "utterances", "recall", "precision", "F1"))),
        ("Speakers", report.table(speaker_rows(recognitions), ("speaker", "utterances", "recognised"))),
    ]
    if "layers" in measured:
        shares = [(f"block {number}", share) for number, share in enumerate(measured["layers"], 1)]
        sections.append(("Layers that speak", report.table(shares, ("of the speech encoder", "share"))))
    training = checkpoint / "training.json"
    if training.is_file() and (history := json.loads(training.read_text(encoding="utf-8"))["history"]):
        sections.append(("Training", report.picture(report.curves({checkpoint.name: history}), "loss curves")))
    if measured["unreadable"]:
        sections.append(("Not read", f"<p>{'<br>'.join(map(html.escape, measured['unreadable']))}</p>"))
    note = f"{measured['utterances']} utterances, by {measured['by']}; {measured['unparseable']} answers unparseable."
    report.write_page(path, "Emotion, recognised", note, sections)
