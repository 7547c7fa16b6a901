"""Parquet shards that hold the encoded audio itself, for corpora too large for loose files.

A shard has the columns of a manifest and one more, ``audio``: the bytes of a FLAC
or WAV file. Its row groups are small, so that a single utterance is read without the rest
of the shard. Shards may lie on disk or behind any URL that fsspec opens.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import soundfile
import torch

from empathy_lightning.audio import SAMPLE_RATE, read
from empathy_lightning.corpora.corpus import Corpus, CorpusError
from empathy_lightning.data.manifest import PATHS, absolute, from_parquet, stored, to_table
from empathy_lightning.files import check_folder, whole
from empathy_lightning.jobs import Claim, recordings_digest, utterances_digest
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

ROWS = 8
"""Utterances in a row group, the least that is read at once."""


class Shards(Corpus):
    """Utterances of a folder of shards; their paths name shard and row.

    Args:
        root: Folder or URL, for example ``s3://bucket/corpus``; libraries for other protocols are fsspec's.
    """

    name = "shards"
    access = "write shards with `empathy-lightning corpora export NAME ROOT --out FOLDER --shards`"

    def read(self, folder: Path) -> Iterator[Utterance]:
        """All shards in the order of their names."""
        import pyarrow.parquet

        system, names = _files(self.root)
        _refuse_unfinished(self.root, system, len(names))
        for name in names:
            with system.open(name, "rb") as file:
                utterances = from_parquet(pyarrow.parquet.ParquetFile(file), name, beside=("audio",))
            for row, utterance in enumerate(utterances):
                shard = system.unstrip_protocol(name)
                for field in PATHS:
                    if (path := getattr(utterance, field)) is not None:
                        setattr(utterance, field, absolute(f"{_home(shard)}/", path))
                utterance.path = f"{shard}#{row}"
                utterance.start, utterance.end = 0.0, None
                yield utterance

    def utterances(self) -> list[Utterance]:
        """All utterances.

        Raises:
            CorpusError: If there are no shards.
        """
        found = list(self.read(Path(self.root)))
        if not found:
            raise CorpusError(f"no shards (part-*.parquet) at {self.root}; {self.access}")
        return found


def _files(root: str) -> tuple[Any, list[str]]:
    import fsspec

    system, path = fsspec.core.url_to_fs(root)
    return system, sorted(system.glob(f"{path.rstrip('/')}/part-*.parquet"))


def _home(shard: str) -> str:
    return shard.rpartition("/")[0].removeprefix("file://")


def _refuse_unfinished(root: str, system: Any, there: int) -> None:
    """Where the export says how many shards there are to be, take no fewer."""
    claim = f"{system._strip_protocol(root).rstrip('/')}/made_from.json"
    if not there or not system.exists(claim):
        return
    with system.open(claim, "rb") as file:
        parts = json.loads(file.read()).get("parts", there)
    if there < parts:
        raise CorpusError(f"{root} holds {there} of {parts} shards: let `corpora export --shards` go on to its end")


def write_shards(
    utterances: Sequence[Utterance], folder: str | Path, per_shard: int = 2_000, again: bool = False
) -> Path:
    """Write shards, each whole or not at all; those made from the same are kept, so a stopped run goes on.

    Args:
        utterances: In the order in which they are stored; segments are cut out.
        folder: Local folder.
        per_shard: Utterances in a shard.
        again: Make anew what is there, whatever it was made from.

    Raises:
        AudioError: If a file cannot be read; check the corpus first.
        InputError: If the folder cannot be written to, or holds shards of something else.
    """
    import pyarrow
    import pyarrow.parquet

    folder = Path(folder)
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recordings = recordings_digest((u.path for u in utterances), folder)
    made_from: dict[str, Any] = {
        "utterances": utterances_digest(utterances, folder),
        "recordings": recordings,
        "per_shard": per_shard,
    }
    starts = range(0, len(utterances), per_shard)
    made_from["parts"] = len(starts)
    claim = Claim(folder, made_from, "part-*.parquet")
    if not claim.is_met(again):
        claim.write()
    for index, start in enumerate(progress_bar(starts, what="shards")):
        path = folder / f"part-{index:05d}.parquet"
        if path.is_file():
            continue
        rows = utterances[start : start + per_shard]
        # Voices and replies stay files; like a manifest's, they are named as seen from the shards.
        named = [Utterance(**stored(path, u)) for u in rows]
        table = to_table(named).append_column("audio", pyarrow.array([encoded(u) for u in rows], pyarrow.binary()))
        with whole(path) as partial:
            pyarrow.parquet.write_table(table, partial, row_group_size=ROWS, compression={"audio": "NONE"})
    return folder


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
