"""What a training was: the task, what it trained and on which corpora, for the folder and its model card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from empathy_lightning.corpora import CORPORA
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.hub import local_folder
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.tasks.trained import part_of


def stages_of(trainer: Any, task: Any, history: Sequence[dict[str, float | None]]) -> list[dict[str, Any]]:
    """The stages before, as their folders tell them, and this one.

    Args:
        trainer: After ``fit``.
        task: What was trained.
        history: Figures of each validation.

    Returns:
        JSON values of each stage: ``task``, ``trained``, ``corpora``, ``epochs``, ``steps``, ``validation``.
    """
    stages: list[dict[str, Any]] = []
    for folder in task.initial_weights:
        stages += [stage for stage in _told(folder) if stage not in stages]
    trained = [type(task.model).__name__]
    if isinstance(task.model, EmpatheticLM):
        trained = sorted({part_of(name) for name, p in task.model.named_parameters() if p.requires_grad})
    own = {
        "task": type(task).__name__,
        "trained": trained,
        "corpora": corpora_of(getattr(trainer, "datamodule", None)),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "validation": _best(trainer, history),
    }
    return [*stages, own]


def _told(folder: str) -> list[dict[str, Any]]:
    file = local_folder(folder) / "training.json"
    if not file.is_file():
        return []
    stages: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")).get("stages", [])
    return stages


def corpora_of(data: Any) -> list[dict[str, Any]]:
    """The corpora of a training: utterances by split, speakers, languages, and what is known of their terms.

    Args:
        data: The DataModule; of another one than the library's nothing is known.
    """
    if not isinstance(data, EmpathyDataModule):
        return []
    counts: dict[str, Counter[str]] = {}
    people: dict[str, set[str | None]] = {}
    for split, rows in data.splits.items():
        for corpus, speaker in rows.each("corpus", "speaker"):
            counts.setdefault(corpus, Counter())[split] += 1
            people.setdefault(corpus, set()).add(speaker)
    found = []
    for name, splits in sorted(counts.items()):
        kind = CORPORA.get(name)
        facts = ("title", "source", "licence", "citation")
        known = {fact: getattr(kind, fact) for fact in facts} if kind else dict.fromkeys(facts)
        speakers = len(people[name] - {None})
        found.append({"name": name, "utterances": dict(splits), "speakers": speakers or None, **known})
    return found


def _best(trainer: Any, history: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Figures of the validation whose weights are kept."""
    figures = [_measured(entry) for entry in history]
    monitor = getattr(trainer.checkpoint_callback, "monitor", None)
    rated = [entry for entry in figures if monitor and entry.get(monitor) is not None]
    if rated:
        return min(rated, key=lambda entry: float(entry[str(monitor)] or 0.0))
    return figures[-1] if figures else {}


def _measured(entry: dict[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in entry.items() if name.startswith("validation/")}
