"""Speech of the expected replies, the codebook over it, and its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from tqdm import tqdm

from empathy_lightning.audio import read, resample, write
from empathy_lightning.checkpoints import load_vocoder, save_vocoder
from empathy_lightning.corpora.left_out import read_chosen
from empathy_lightning.corpora.manifest import read_manifest, write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.modules.vocoder import Vocoder
from empathy_lightning.preparation.espeak import render
from empathy_lightning.preparation.small_world import REPLY_STYLES, REPLY_VOICE


def render_replies(manifest: str | Path, out: str | Path, train: int | None = None) -> Path:
    """Say each response in the style that suits the emotion; a synthetic stand-in for recorded replies.

    Args:
        manifest: Utterances with responses.
        out: Manifest to write; the audio goes beside it. An existing one is kept.
        train: Most training replies to render; None renders all.

    Raises:
        InputError: If eSpeak NG is not installed.
    """
    out = Path(out)
    if out.is_file():
        return out
    utterances = read_chosen(manifest, audio=False)
    chosen = [u for u in utterances if u.split == "train"][:train] + [u for u in utterances if u.split != "train"]
    for utterance in chosen:
        if not utterance.response or utterance.emotion not in REPLY_STYLES:
            raise InputError(
                f"{manifest}: {utterance.id} needs a response and one of the emotions {', '.join(REPLY_STYLES)}"
            )
    spoken = []
    for utterance in tqdm(chosen, desc="rendering replies"):
        waveform, rate = render(utterance.response or "", REPLY_VOICE, REPLY_STYLES[utterance.emotion or ""])
        path = out.parent / "replies" / f"{utterance.id}.flac"
        write(path, resample(torch.from_numpy(waveform), rate))
        spoken.append(replace(utterance, response_path=str(path)))
    write_manifest(out, spoken)
    return out


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


def prepare_units(manifest: str | Path, out: str | Path, vocoder_folder: str | Path, num_units: int = 512) -> Path:
    """Fit a vocoder to the training replies, unless one is there, and write each reply's units.

    Args:
        manifest: Utterances with ``response_path``.
        out: Manifest to write; an existing one is kept.
        vocoder_folder: Where the vocoder is, or goes.
        num_units: Size of a new codebook.
    """
    out = Path(out)
    if out.is_file():
        return out
    utterances = [u for u in read_manifest(manifest) if u.response_path]
    if not (Path(vocoder_folder) / "config.json").is_file():
        vocoder = Vocoder(num_units)
        train = [u for u in utterances if u.split == "train"][:600]
        fit_vocoder(vocoder, [read(u.response_path or "") for u in tqdm(train, desc="codebook")])
        save_vocoder(vocoder_folder, vocoder)
    vocoder = load_vocoder(str(vocoder_folder))
    write_manifest(
        out,
        [
            replace(u, units=vocoder.encode(read(u.response_path or "")).tolist())
            for u in tqdm(utterances, desc="units of replies")
        ],
    )
    return out
