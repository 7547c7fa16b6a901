"""The codebook over the speech of the replies, and its units."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE, read, resample
from empathy_lightning.checkpoints import load_quantizer, save
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.jobs import Claim, digest, folder_digest, recordings_digest
from empathy_lightning.modules.contracts import Quantizer
from empathy_lightning.modules.vocoder import Vocoder
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance


def fit_vocoder(
    vocoder: Vocoder, waveforms: Sequence[Tensor], most: int = 40_000, dimensions: int = 32, seed: int = 0
) -> None:
    """Fit the codebook to speech by k-means, and the spectrum of each unit by the mean of its stretches.

    Args:
        vocoder: Its codebook and spectra are filled.
        waveforms: Speech at the vocoder's sample rate, each (T,).
        most: Stretches used at most.
        dimensions: Principal components in which k-means runs; they hold nearly all variance.
        seed: Seed of the start.
    """
    features, spectra = zip(*(vocoder.stretches(w) for w in waveforms), strict=True)
    mel, spectrum = torch.cat(features)[:most], torch.cat(spectra)[:most]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mean = mel.mean(0)
        _, _, axes = torch.pca_lowrank(mel - mean, min(dimensions, *mel.shape))
        centres, assigned = kmeans2(((mel - mean) @ axes).numpy(), vocoder.num_units, 20, minit="points", rng=seed)
    units, counts = (
        torch.from_numpy(assigned).long(),
        torch.bincount(torch.from_numpy(assigned), minlength=vocoder.num_units),
    )
    vocoder.codebook.copy_(torch.from_numpy(centres).float() @ axes.T + mean)
    sums = torch.zeros_like(vocoder.spectra).index_add_(0, units, spectrum)
    vocoder.spectra.copy_(sums / counts.clamp(min=1)[:, None])
    # A centre that lost all its stretches must never be nearest to anything.
    vocoder.codebook[counts == 0] = 1e4


def prepare_units(
    manifest: str | Path,
    out: str | Path,
    vocoder_folder: str | Path | None,
    train: int | None = None,
    again: bool = False,
    num_units: int = 512,
    max_left_out: float = MOST,
    quantizer_folder: str | Path | None = None,
    trust: Sequence[str] = (),
) -> Path:
    """Write the units of each reply's recording; a manifest made from the same is kept.

    The recordings are the utterances' own (``response_path``), whatever the emotions, and replies without one are
    left out; ``prepare speech`` makes them.

    Args:
        manifest: Utterances with spoken responses.
        out: Manifest to write.
        vocoder_folder: Where the vocoder is, and is used as it is; if there is none, it is fitted to the training
            replies and saved there. None where there is a quantiser of its own.
        train: Most training replies to use; None takes all.
        again: Make anew what is there, whatever it was made from; not the vocoder.
        num_units: Size of a new codebook.
        max_left_out: Share of the replies that may have no recording, where others have.
        quantizer_folder: Of a part that has ``encode`` alone, see :class:`.modules.contracts.Quantizer`.
        trust: Packages besides this library whose classes the folder may name.

    Raises:
        InputError: If there are no replies to use, or ``out`` cannot be written or was made from something else.
    """
    if (given := quantizer_folder or vocoder_folder) is None or (quantizer_folder and vocoder_folder):
        raise InputError("give --vocoder FOLDER or --quantizer FOLDER, whichever turns speech into units, not both")
    name = "quantizer" if quantizer_folder else "vocoder"
    manifest, out, folder = Path(manifest), Path(out), Path(given)
    check_target(out, [manifest])
    there = (folder / "config.json").is_file()
    if quantizer_folder and not there:
        raise InputError(f"--quantizer: no checkpoint folder at {folder}: write it with checkpoints.save")
    if not there:
        check_folder(folder)
    chosen = _chosen(read_chosen(manifest, audio=False), manifest, train)
    spoken = [u for u in chosen if u.response_path]
    if not spoken:
        raise InputError(f"{manifest} has no recording of a reply (response_path): make them with `prepare speech`")
    fitted_to = {"manifest": digest(manifest), "train": train}
    fitted_to["replies"] = recordings_digest((u.response_path or "" for u in spoken), manifest.parent)
    made_from = fitted_to | {name: folder_digest(folder) if there else None}
    if Claim(out, made_from).is_done(again):
        return out
    if len(spoken) < len(chosen):
        silent = [("replies without a recording", u.id) for u in chosen if not u.response_path]
        print(f"left out: {len(silent)} of {len(chosen)} replies, which have no recording")
        refuse_lost(silent, len(chosen), max_left_out)
    quantizer = _known(folder, fitted_to, name, trust) if there else None
    if quantizer is None:
        quantizer = _fitted(folder, spoken, num_units, fitted_to)
    recordings = progress_bar(spoken, what="units of replies")
    units = [replace(u, units=_units(quantizer, read(u.response_path or ""))) for u in recordings]
    Claim(out, made_from | {name: folder_digest(folder)}).write()
    write_manifest(out, units)
    return out


def _chosen(utterances: Sequence[Utterance], manifest: Path, train: int | None) -> list[Utterance]:
    training = [u for u in utterances if u.split == "train"]
    chosen = training[:train] + [u for u in utterances if u.split != "train"]
    if not chosen:
        raise InputError(f"{manifest} has no utterances, so there are no replies to use")
    return chosen


@torch.no_grad()
def _units(quantizer: Quantizer, waveform: Tensor) -> list[int]:
    """Units of a waveform (T,) at 16 kHz."""
    heard = resample(waveform, SAMPLE_RATE, getattr(quantizer, "sample_rate", SAMPLE_RATE))
    units = quantizer.encode(heard)
    if units.ndim != 1 or units.is_floating_point():
        shape = f"{units.dtype} of shape {tuple(units.shape)}"
        raise InputError(f"encode of {type(quantizer).__name__} gives {shape}: it has to give whole numbers (U,)")
    return [int(unit) for unit in units.tolist()]


def _known(folder: Path, fitted_to: dict[str, Any], name: str, trust: Sequence[str]) -> Quantizer:
    """The quantiser that is there, with a line that tells whether it is a vocoder of this job's own."""
    quantizer = load_quantizer(str(folder), trust)
    if name == "quantizer":
        return quantizer
    told = Claim(folder / "model.safetensors", fitted_to)
    own = told.path.is_file() and json.loads(told.path.read_text(encoding="utf-8")) == fitted_to
    print(f"vocoder: {folder} is there and is used as it is" + ("" if own else ", not fitted to these replies"))
    return quantizer


def _fitted(folder: Path, spoken: Sequence[Utterance], num_units: int, fitted_to: dict[str, Any]) -> Quantizer:
    """A new vocoder, fitted to the training replies and saved."""
    training = [u for u in spoken if u.split == "train"][:600]
    if not training:
        raise InputError(f"there is no vocoder at {folder}, and no reply in split train to fit one to")
    vocoder = Vocoder(num_units)
    fit_vocoder(vocoder, [read(u.response_path or "") for u in progress_bar(training, what="codebook")])
    Claim(folder / "model.safetensors", fitted_to).write()
    save(folder, vocoder)
    return load_quantizer(str(folder))
