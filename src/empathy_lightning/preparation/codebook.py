"""Fit the codebook of a mel quantizer to recordings, by k-means."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from empathy_lightning.audio import read
from empathy_lightning.checkpoints import save
from empathy_lightning.data.left_out import MOST
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.digests import digest, recordings_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, file_of
from empathy_lightning.jobs import Claim
from empathy_lightning.modules.mel_quantizer import MelQuantizer
from empathy_lightning.preparation.quantizer import pieces_of
from empathy_lightning.progress import progress_bar
from empathy_lightning.storage import is_url

_NEVER = 1e4
"""A log power so high that no speech comes near it."""


def fit_codebook(
    quantizer: MelQuantizer, waveforms: Sequence[Tensor], most: int = 60_000, dimensions: int = 48, seed: int = 0
) -> None:
    """Fit a codebook to speech by k-means.

    Args:
        quantizer: Its codebook is filled.
        waveforms: Speech at the quantizer's sample rate, each (T,).
        most: Stretches used at most, drawn from all.
        dimensions: Principal components in which k-means runs; they hold nearly all variance.
        seed: Seed of the draw and of the start.

    Raises:
        InputError: If there are fewer stretches than units.
    """
    if not waveforms:
        raise InputError("there is no recording in split train to fit a codebook to")
    stretches = torch.cat([quantizer.stretches(waveform) for waveform in waveforms])
    if len(stretches) < quantizer.num_units:
        raise InputError(
            f"{len(stretches)} units of speech for a codebook of {quantizer.num_units}: give more recordings, or "
            "fewer units"
        )
    # pca_lowrank draws too, and takes no generator of its own.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stretches = stretches[torch.randperm(len(stretches))[:most]]
        mean = stretches.mean(0)
        _, _, axes = torch.pca_lowrank(stretches - mean, min(dimensions, *stretches.shape))
    reduced = ((stretches - mean) @ axes).numpy()
    with warnings.catch_warnings():
        # A centre that lost all its stretches is put out of reach below.
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        centres, assigned = kmeans2(reduced, quantizer.num_units, 20, minit="points", rng=seed)
    quantizer.codebook.copy_(torch.from_numpy(centres).float() @ axes.T + mean)
    counts = torch.bincount(torch.from_numpy(assigned).long(), minlength=quantizer.num_units)
    quantizer.codebook[counts == 0] = _NEVER


def prepare_codebook(
    manifest: str | Path,
    out: str | Path,
    num_units: int = 1024,
    recordings: int = 600,
    seed: int = 0,
    again: bool = False,
    max_left_out: float = MOST,
) -> Path:
    """Fit a codebook to the training recordings of a manifest; one that was fitted to the same is kept.

    They are those of the replies (``response_path``), or of the utterances where no reply has one.

    Args:
        manifest: Utterances with recordings, files or rows of shards.
        out: Folder of the quantizer.
        num_units: Size of the codebook.
        recordings: How many are used at most, from the first on.
        seed: Of the draws.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may lack their audio file.

    Returns:
        The folder.

    Raises:
        InputError: If there is too little to fit to, or the folder holds what was made from something else.
    """
    manifest, out = Path(manifest), Path(out)
    check_folder(out)
    pieces = pieces_of(read_chosen(manifest, "train", max_left_out))
    chosen = [piece for piece in pieces if _may_be_there(piece[0])][:recordings]
    made_from = {"manifest": digest(manifest), "num_units": num_units, "recordings": recordings, "seed": seed}
    made_from["audio"] = recordings_digest((path for path, *_ in chosen), manifest.parent)
    claim = Claim(out / "model.safetensors", made_from)
    if claim.is_done(again):
        return out
    quantizer = MelQuantizer(num_units)
    waveforms = [read(*piece) for piece in progress_bar(chosen, what="codebook")]
    fit_codebook(quantizer, waveforms, seed=seed)
    claim.write()
    save(out, quantizer.half())
    return out


def _may_be_there(path: str) -> bool:
    """Whether a recording is there; a shard elsewhere is looked for when it is read."""
    return is_url(path) or Path(file_of(path)).is_file()
