"""Units of the expected replies' speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lightning.checkpoints import load_quantizer
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, folder_digest, recordings_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.hub import local_folder
from empathy_lightning.jobs import Claim
from empathy_lightning.preparation.answers import shards_of
from empathy_lightning.preparation.unit_shards import write_units
from empathy_lightning.utterance import Utterance


def prepare_units(
    manifest: str | Path,
    out: str | Path,
    quantizer_folder: str | Path,
    train: int | None = None,
    again: bool = False,
    max_left_out: float = MOST,
    trust: Sequence[str] = (),
    per_shard: int = 256,
) -> Path:
    """Write the units of each reply's recording; a manifest made from the same is kept.

    The recordings are the utterances' own (``response_path``), whatever the emotions, and replies without one are
    left out; ``prepare speech`` makes them.

    Args:
        manifest: Utterances with spoken responses.
        out: Manifest to write.
        quantizer_folder: Of a part that has ``encode``, see :class:`.modules.contracts.Quantizer`.
        train: Most training replies to use; None takes all.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the replies that may have no recording, where others have.
        trust: Packages besides this library whose classes the folder may name.
        per_shard: Utterances in a shard, the most that an interruption costs.

    Raises:
        InputError: If there are no replies to use, or ``out`` cannot be written or was made from something else.
    """
    if train is not None and train < 0:
        raise InputError(f"--train is {train}: give at least 0")
    manifest, out, folder = Path(manifest), Path(out), local_folder(quantizer_folder)
    check_target(out, [manifest])
    check_folder(shards_of(out))
    if not (folder / "config.json").is_file():
        raise InputError(f"--quantizer: no checkpoint folder at {folder}: make one with `prepare quantizer`")
    chosen = _chosen(read_chosen(manifest, audio=False), manifest, train)
    spoken = [u for u in chosen if u.response_path]
    if not spoken:
        raise InputError(f"{manifest} has no recording of a reply (response_path): make them with `prepare speech`")
    made_from = {
        "manifest": digest(manifest),
        "train": train,
        "replies": recordings_digest((u.response_path or "" for u in spoken), manifest.parent),
        "quantizer": folder_digest(folder),
    }
    if Claim(out, made_from).is_done(again):
        return out
    # Said before the quantizer is loaded.
    if len(spoken) < len(chosen):
        silent = [("replies without a recording", u.id) for u in chosen if not u.response_path]
        print(f"left out: {len(silent)} of {len(chosen)} replies, which have no recording")
        refuse_lost(silent, len(chosen), max_left_out)

    def _load() -> Any:
        return load_quantizer(str(folder), list(trust))

    write_units(spoken, out, made_from, _load, per_shard, again, max_left_out)
    return out


def _chosen(utterances: Sequence[Utterance], manifest: Path, train: int | None) -> list[Utterance]:
    training = [u for u in utterances if u.split == "train"]
    chosen = training[:train] + [u for u in utterances if u.split != "train"]
    if not chosen:
        raise InputError(f"{manifest} has no utterances, so there are no replies to use")
    return chosen
