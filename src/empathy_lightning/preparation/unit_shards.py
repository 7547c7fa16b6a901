"""Units of many recordings: in shards, over processes and machines, resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from empathy_lightning.audio import SAMPLE_RATE, AudioError, duration_of, read, resample
from empathy_lightning.data.left_out import refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.sampler import LengthBucketSampler
from empathy_lightning.devices import own_device
from empathy_lightning.errors import InputError
from empathy_lightning.jobs import Claim, alone
from empathy_lightning.part_weights import quantizer_digest
from empathy_lightning.preparation.answers import AnswerShard, in_shards, shards_of
from empathy_lightning.progress import say
from empathy_lightning.utterance import QUANTIZER, Utterance

FIELDS = ("response", "response_path", "response_cut", "units", "raw_labels")
"""What a shard keeps of a reply."""


def write_units(
    spoken: Sequence[Utterance],
    out: Path,
    made_from: dict[str, Any],
    load: Callable[[], Any],
    per_shard: int = 256,
    again: bool = False,
    max_left_out: float = 0.0,
) -> None:
    """Write a manifest with the units of each reply's recording; a run that was stopped goes on where it was.

    Under torchrun the processes make the shards by turns, and whoever makes the last one writes the manifest.

    Args:
        spoken: Utterances with recordings of their replies.
        out: Manifest to write; its shards go to ``<out>.shards``.
        made_from: What decides the units, for the claims.
        load: Gives the quantizer; called only where a shard is missing.
        per_shard: Utterances in a shard, the most that an interruption costs.
        again: Remove the shards that are there first.
        max_left_out: Share of the replies whose recordings may be unreadable.

    Raises:
        InputError: If the shards were made from something else, or too many recordings cannot be read.
    """
    folder = shards_of(out)

    def _load() -> AnswerShard:
        quantizer = load()
        if isinstance(quantizer, nn.Module):
            quantizer.to(own_device())
        return lambda shard, progress: _shard_units(quantizer, shard, progress)

    with alone(folder):
        # A recording that could not be read is tried again: a disk that is back, a file that was mended.
        found = in_shards(
            spoken, folder, made_from, _load, per_shard, "units of replies", _has_none, fields=FIELDS, again=again
        )
        if found is None:
            return
        lost = [("replies whose recording cannot be read", u.response_path or u.id) for u in found if u.units is None]
        refuse_lost(lost, len(found), max_left_out)
        if lost:
            say(f"left out: {len(lost)} of {len(found)} replies, whose recordings cannot be read")
        Claim(out, made_from).write()
        write_manifest(out, [u for u in found if u.units is not None])


def _has_none(_: Utterance, row: Utterance) -> bool:
    return row.units is None


def _shard_units(quantizer: Any, shard: Sequence[Utterance], progress: Any) -> list[Utterance]:
    """The utterances of a shard with their units, None where the recording cannot be read."""
    found: list[Utterance] = [replace(u, units=None) for u in shard]
    made_by = quantizer_digest(quantizer)
    origin = {} if made_by is None else {QUANTIZER: made_by}
    for rows in _batches(quantizer, shard):
        waveforms: dict[int, Tensor] = {}
        for row in rows:
            try:
                waveforms[row] = _heard(quantizer, shard[row])
            except AudioError as error:
                say(f"without units: {error}")
        if waveforms:
            for row, units in zip(waveforms, _units(quantizer, list(waveforms.values())), strict=True):
                labels = {**shard[row].raw_labels, **origin}
                found[row] = replace(shard[row], units=units, raw_labels=labels)
        progress.update(len(rows))
    return found


def _batches(quantizer: Any, shard: Sequence[Utterance], batch_seconds: float = 120.0) -> list[list[int]]:
    """Rows of like length, or one by one where the quantizer takes one at a time."""
    if not hasattr(quantizer, "encode_many"):
        return [[row] for row in range(len(shard))]
    batches = []
    for batch in LengthBucketSampler([_seconds(u) for u in shard], batch_seconds, shuffle=False):
        batches.append([draw.row for draw in batch])
    return batches


def _seconds(utterance: Utterance) -> float:
    try:
        return duration_of(utterance.response_path or "")
    except AudioError:
        # It is told of where it is read.
        return 0.0


def _heard(quantizer: Any, utterance: Utterance) -> Tensor:
    """The recording of a reply at the quantizer's rate."""
    waveform = read(utterance.response_path or "")
    return resample(waveform, SAMPLE_RATE, getattr(quantizer, "sample_rate", SAMPLE_RATE))


@torch.no_grad()
def _units(quantizer: Any, waveforms: list[Tensor]) -> list[list[int]]:
    """Units of each waveform.

    Raises:
        InputError: If the quantizer gives something else.
    """
    device = _device(quantizer)
    if hasattr(quantizer, "encode_many"):
        padded = nn.utils.rnn.pad_sequence(waveforms, batch_first=True).to(device)
        lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
        found = quantizer.encode_many(padded, lengths)
    else:
        found = [quantizer.encode(waveform.to(device)) for waveform in waveforms]
    return [_checked(quantizer, units) for units in found]


def _checked(quantizer: Any, units: Tensor) -> list[int]:
    name, size = type(quantizer).__name__, getattr(quantizer, "num_units", None)
    if units.ndim != 1 or units.is_floating_point():
        shape = f"{units.dtype} of shape {tuple(units.shape)}"
        raise InputError(f"encode of {name} gives {shape}: it has to give whole numbers (U,)")
    row = [int(unit) for unit in units.tolist()]
    if row and (min(row) < 0 or (size is not None and max(row) >= size)):
        raise InputError(f"encode of {name} gives units from {min(row)} to {max(row)}, but it has {size}: mend either")
    return row


def _device(quantizer: Any) -> torch.device:
    if not isinstance(quantizer, nn.Module):
        return torch.device("cpu")
    for tensor in (*quantizer.parameters(), *quantizer.buffers()):
        return tensor.device
    return torch.device("cpu")
