"""Copies of training recordings as if heard in rooms and with noise, on disk, so that each can be encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from empathy_lightning.audio import SAMPLE_RATE, AudioError, read, write
from empathy_lightning.data.augmentation import Augmentation, drawn_from
from empathy_lightning.data.left_out import MOST, kind_of, refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, recordings_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.jobs import Claim, alone, seed_of, speech_file
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance
from empathy_lightning.walk import files_below


def prepare_copies(
    manifest: str | Path,
    out: str | Path,
    copies: int = 1,
    noise: tuple[float, float] = (5.0, 30.0),
    rooms: tuple[float, float] = (0.1, 0.7),
    noise_folder: str | None = None,
    seed: int = 0,
    again: bool = False,
    max_left_out: float = MOST,
) -> Path:
    """Write the manifest again with changed copies of its training utterances behind it.

    A copy has the id of its original with ``~1``, ``~2`` ... after it, and everything else from it. Recordings that
    are there already, from a run that was interrupted, are kept.

    Args:
        manifest: Utterances with recordings.
        out: Manifest to write; the copies lie in ``<out>.speech``.
        copies: Of each training utterance.
        noise: Lowest and highest signal-to-noise ratio in dB.
        rooms: Shortest and longest reverberation time in seconds.
        noise_folder: Recordings of noise; None takes white noise.
        seed: Of all draws, which depend on the utterance too.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may be missing.

    Raises:
        InputError: If something cannot be read, or the place holds what was made from something else.
    """
    manifest, out = Path(manifest), Path(out)
    check_target(out, [manifest])
    folder = out.with_name(f"{out.name}.speech")
    check_folder(folder)
    change = Augmentation(
        noise, noise_folder, drop_frequencies=False, drop_stretches=False, rooms=rooms, probability=0.8
    )
    utterances = read_chosen(manifest, most=max_left_out)
    originals = [u for u in utterances if u.split == "train"]
    if not originals:
        raise InputError(f"{manifest} has no training utterance to copy: its split must be train")
    made_from: dict[str, Any] = {"manifest": digest(manifest), "copies": copies, "noise": noise, "rooms": rooms}
    made_from |= {"noise_folder": noise_folder and _noises(Path(noise_folder)), "seed": seed}
    made_from["recordings"] = recordings_digest([u.path for u in originals], manifest.parent)
    with alone(folder):
        claim = Claim(folder, made_from, "*/*.wav")
        if not claim.is_met(again):
            claim.write()
        rows = []
        for copy in range(1, copies + 1):
            rows += [replace(u, id=f"{u.id}~{copy}", duration=None) for u in originals]
        unreadable: dict[str, str] = {}
        changed = _changed(rows, originals * copies, out, change, seed, unreadable)
        refuse_lost([(why, path) for path, why in unreadable.items()], len(originals), max_left_out)
        Claim(out, made_from).write()
        write_manifest(out, [*utterances, *changed])
    print(f"{len(changed)} copies of {len(originals)} training utterances")
    return out


def _noises(folder: Path) -> str:
    """Digest of the recordings of a folder."""
    return recordings_digest([str(path) for path in files_below(folder)], folder)


def _changed(
    rows: Sequence[Utterance],
    originals: Sequence[Utterance],
    out: Path,
    change: Augmentation,
    seed: int,
    unreadable: dict[str, str],
) -> list[Utterance]:
    """The copies; recordings that cannot be read have none, and are told with the reason."""
    made = []
    pairs = list(zip(rows, originals, strict=True))
    for row, original in progress_bar(pairs, what="copies"):
        file = speech_file(out, row)
        if not file.is_file():
            try:
                waveform = read(original.path, original.start, original.end)
            except AudioError as error:
                unreadable[original.path] = kind_of(str(error).removeprefix(f"{original.path}: "))
                continue
            # By the copy's own id, so that neither order nor an interruption changes what is drawn.
            with drawn_from((seed_of(seed, row),)):
                waveform = change(waveform)
            write(file, waveform.clamp(-1, 1), SAMPLE_RATE)
        made.append(replace(row, path=str(file), start=0.0, end=None))
    return made
