"""Write a corpus as shards, to a folder or behind a URL: each shard appears whole or not at all."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch

from empathy_lightning import storage
from empathy_lightning.audio import SAMPLE_RATE, read
from empathy_lightning.data.manifest import stored
from empathy_lightning.data.rows import to_table
from empathy_lightning.data.shards import AUDIO, CLAIM, SIZES, part_name, ranges_of, read_claim
from empathy_lightning.digests import recordings_digest, utterances_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, whole, write_json
from empathy_lightning.jobs import Claim, check_again, rank_and_world_size
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

ROWS = 100
"""Most utterances in a row group, the least that other readers of Parquet read at once."""

GROUP_BYTES = 2**26
"""Bytes of audio after which a row group ends."""


def write_shards(
    utterances: Sequence[Utterance], folder: str | Path, per_shard: int = 2_000, again: bool = False
) -> str | Path:
    """Write shards, each whole or not at all; those made from the same are kept, so a stopped run goes on.

    Under torchrun, or with ``RANK`` and ``WORLD_SIZE`` set, the processes write the shards by turns.

    Args:
        utterances: In the order in which they are stored; segments are cut out.
        folder: Local folder, or a URL. Readers refuse it until its last shard is there.
        per_shard: Utterances in a shard.
        again: Make anew what is there, whatever it was made from.

    Returns:
        The folder.

    Raises:
        AudioError: If a file cannot be read; check the corpus first.
        InputError: If the folder cannot be written to, or holds shards of something else.
    """
    target = storage.local_path(str(folder)).rstrip("/")
    elsewhere = storage.is_url(target)
    if not elsewhere:
        check_folder(Path(target))
        Path(target).mkdir(parents=True, exist_ok=True)
    starts = range(0, len(utterances), per_shard)
    made_from: dict[str, Any] = {
        "utterances": utterances_digest(utterances, target),
        "recordings": recordings_digest((u.path for u in utterances), target),
        "per_shard": per_shard,
        "parts": len(starts),
    }
    claim = _claim_elsewhere if elsewhere else _claim_here
    claim(target, made_from, again)
    rank, processes = rank_and_world_size()
    own = list(enumerate(starts))[rank::processes]
    for index, start in progress_bar(own, what="shards"):
        _make(f"{target}/{part_name(index)}", utterances[start : start + per_shard])
    return folder


def _make(name: str, utterances: Sequence[Utterance]) -> None:
    """Write a shard that is not there."""
    if not storage.is_url(name):
        if not Path(name).is_file():
            with whole(Path(name)) as partial:
                _write(partial, name, utterances)
    elif not storage.exists(name):
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "shard.parquet"
            _write(made, name, utterances)
            storage.write(name, made)


def _claim_here(folder: str, made_from: dict[str, Any], again: bool) -> None:
    claim = Claim(Path(folder), made_from, "part-*.parquet")
    if not claim.is_met(again):
        claim.write()


def _claim_elsewhere(folder: str, made_from: dict[str, Any], again: bool) -> None:
    """As a :class:`.jobs.Claim`, behind a URL."""
    there = storage.files_in(folder, "part-*.parquet")
    then = read_claim(folder)
    if again:
        check_again(folder)
        for name in there:
            storage.remove(name)
    elif there and then != made_from:
        changed = [name for name in made_from if (then or {}).get(name) != made_from[name]]
        raise InputError(
            f"{folder} was made from something else ({', '.join(changed)} changed): change --out, or make it anew "
            "with --again"
        )
    if then != made_from:
        with tempfile.TemporaryDirectory() as local:
            write_json(Path(local) / CLAIM, made_from)
            storage.write(f"{folder}/{CLAIM}", Path(local) / CLAIM)


def _write(path: Path, name: str, utterances: Sequence[Utterance]) -> None:
    """Write a shard; voices and replies stay files, named as seen from where it will lie."""
    import pyarrow
    import pyarrow.parquet

    schema = to_table([]).schema
    schema = schema.append(pyarrow.field(SIZES, pyarrow.int64())).append(
        pyarrow.field(AUDIO, pyarrow.binary(), nullable=False)
    )
    plain = {
        "compression": {AUDIO: "NONE"},
        "use_dictionary": [field for field in schema.names if field not in (AUDIO, SIZES)],
        "write_statistics": [field for field in schema.names if field != AUDIO],
        # The recordings of a group are one page.
        "data_page_size": 2**31 - 1,
    }
    with pyarrow.parquet.ParquetWriter(path, schema, **plain) as writer:
        for rows, recordings in _groups(utterances):
            named = [Utterance(**stored(name, utterance)) for utterance in rows]
            table = to_table(named).append_column(SIZES, pyarrow.array(map(len, recordings), pyarrow.int64()))
            table = table.append_column(schema.field(AUDIO), pyarrow.array(recordings, pyarrow.binary()))
            writer.write_table(table, row_group_size=ROWS)
    # What cannot be found again is refused here, not where it is read.
    ranges_of(pyarrow.parquet.ParquetFile(path), name)


def _groups(utterances: Sequence[Utterance]) -> Iterator[tuple[list[Utterance], list[bytes]]]:
    """Utterances with their recordings, so many at a time as are one row group."""
    rows: list[Utterance] = []
    recordings: list[bytes] = []
    held = 0
    for utterance in utterances:
        recordings.append(encoded(utterance))
        rows.append(utterance)
        held += len(recordings[-1])
        if len(rows) == ROWS or held >= GROUP_BYTES:
            yield rows, recordings
            rows, recordings, held = [], [], 0
    if rows:
        yield rows, recordings


def encoded(utterance: Utterance) -> bytes:
    """The utterance as it is heard, mono at 16 kHz: 16-bit FLAC, or a float WAV file where 16 bits would clip it."""
    waveform = read(utterance.path, utterance.start, utterance.end)
    buffer = io.BytesIO()
    if waveform.abs().max() > 1:
        soundfile.write(buffer, waveform.numpy(), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    else:
        # soundfile would scale floats by 32767, and read them by 32768.
        samples = (waveform * 32_768).round().clamp(max=32_767).to(torch.int16)
        soundfile.write(buffer, samples.numpy(), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
