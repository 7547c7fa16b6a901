"""Before a training: whether the utterances have what its losses are to learn from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.data.left_out import Tally
from empathy_lightning.errors import InputError
from empathy_lightning.utterance import QUANTIZER, Utterance

_ARTICLED = {"response": "a response", "emotion": "an emotion", "emotion_votes": "emotion_votes"}


def check_training_data(trainer: Any, fields: Sequence[str], losses: Mapping[str, nn.Module]) -> None:
    """Say how many training utterances have what the task needs, and refuse to train on too little of it.

    Args:
        trainer: With the DataModule; another one than the library's is not looked into.
        fields: Of an utterance, in all of which the task's own loss reads; none where it has no such loss.
        losses: The auxiliary losses that weigh something, by name. One with an attribute ``needs`` learns from
            utterances that have any of these fields, another one from whatever it likes.

    Raises:
        InputError: If no utterance has a field, or what a loss needs, or if more than ``max_left_out`` of them would
            train nothing and no other task is mixed in.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EmpathyDataModule) or not data.splits.get("train"):
        return
    own = data.splits["train"]
    for field in fields:
        if not any(_has(u, field, data.emotions) for u in own):
            command = "units" if field == "units" else "responses"
            made = f"make them with `empathy-lightning prepare {command}`"
            raise InputError(f"no training utterance has {_ARTICLED.get(field, field)}; {made}")
    for name, loss in losses.items():
        _check_learnable(name, loss, data)
    lacking = [u for u in own if not all(_has(u, field, data.emotions) for field in fields)]
    if not lacking:
        return
    named = " and ".join(_ARTICLED.get(field, field) for field in fields)
    if trainer.is_global_zero:
        print(f"{len(own) - len(lacking):,} of {len(own):,} training utterances have {named}", file=sys.stderr)
    # Labels outside the task were counted where they were read.
    if data.mixed_in or data.answer == "emotion":
        return
    tally = Tally(kept=len(own))
    for utterance in lacking:
        if not any(_learns_from(loss, utterance, data.emotions) for loss in losses.values()):
            tally.kept -= 1
            tally.lose(f"without {named}", utterance.id)
    tally.refuse_above(data.max_left_out, "--data.max_left_out")


def _check_learnable(name: str, loss: nn.Module, data: EmpathyDataModule) -> None:
    """Refuse an auxiliary loss to which no training utterance, mixed in or not, has anything to say."""
    for rows in (data.splits["train"], *data.mixed):
        if any(_learns_from(loss, utterance, data.emotions) for utterance in rows):
            return
    needs = _needs(loss)
    if needs:
        wanted = " or ".join(_ARTICLED.get(field, field) for field in needs)
        raise InputError(
            f"auxiliary_losses.{name}: no training utterance has {wanted}; label them, or give the loss the "
            f"weight 0 (--model.loss_weights.{name} 0)"
        )


def check_known_units(trainer: Any, num_units: int | None) -> None:
    """Refuse units that the speech decoder does not write, before its first batch.

    Args:
        trainer: As for :func:`check_training_data`.
        num_units: Size of its vocabulary; None where it does not say.

    Raises:
        InputError: If an utterance has another one.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EmpathyDataModule) or num_units is None:
        return
    for utterance in _with_units(data):
        highest = max(utterance.units or ())
        if highest >= num_units:
            raise InputError(
                f"{utterance.corpus}/{utterance.id} has unit {highest}, but the speech decoder writes 0 to "
                f"{num_units - 1}: give it the num_units of the quantizer that made them, or make them anew"
            )


def quantizer_of_units(trainer: Any) -> str | None:
    """Digest of the quantizer that made the units; None where nothing says it.

    Args:
        trainer: As for :func:`check_training_data`.

    Raises:
        InputError: If they are of several.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EmpathyDataModule):
        return None
    stated = {utterance.raw_labels.get(QUANTIZER) for utterance in _with_units(data)} - {None}
    if len(stated) > 1:
        raise InputError(
            f"the units are of {len(stated)} quantizers, for each of which a number means another sound: make them "
            "anew with one, by `empathy-lightning prepare units`"
        )
    return next(iter(stated), None)


def _with_units(data: EmpathyDataModule) -> Iterator[Utterance]:
    for rows in data.splits.values():
        for utterance in rows:
            if utterance.units:
                yield utterance


def _needs(loss: nn.Module) -> tuple[str, ...]:
    needs: Any = getattr(loss, "needs", ())
    return (needs,) if isinstance(needs, str) else tuple(needs)


def _learns_from(loss: nn.Module, utterance: Utterance, emotions: Sequence[str]) -> bool:
    needs = _needs(loss)
    return not needs or any(_has(utterance, field, emotions) for field in needs)


def _has(utterance: Utterance, field: str, emotions: Sequence[str]) -> bool:
    """Whether a field is filled; of emotions, with one of the task's."""
    value = getattr(utterance, field)
    if field == "emotion":
        return value in emotions
    if field == "emotion_votes":
        return any(name in emotions for name in value)
    # A rating of 0 is one.
    return value is not None and value != "" and value != []
