"""Pseudo-ratings: arousal, valence and dominance as a frozen emotion encoder hears them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from empathy_lightning.audio import AudioError, check_speech, read
from empathy_lightning.data.batch import SpeechDataset
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.data.sampler import LengthBucketSampler
from empathy_lightning.devices import own_device
from empathy_lightning.digests import digest, recordings_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_target
from empathy_lightning.jobs import Claim
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import RATINGS, Utterance

MAX_SECONDS = 30.0
"""Longer utterances are rated by their beginning."""


@torch.no_grad()
def rate(encoder: EmotionEncoder, waveforms: Sequence[Tensor]) -> list[dict[str, float]]:
    """Ratings of waveforms, clamped to 0..1 and rounded to four decimals.

    Args:
        encoder: The frozen emotion encoder.
        waveforms: At 16 kHz, each (T_i,).

    Returns:
        Arousal, valence and dominance of each by name.
    """
    device = next(encoder.parameters()).device
    padded = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True).to(device)
    heard = encoder(padded, torch.tensor([len(waveform) for waveform in waveforms], device=device))
    columns = {name: getattr(heard, name).clamp(0.0, 1.0).tolist() for name in RATINGS}
    rated = []
    for row in range(len(waveforms)):
        rated.append({name: round(columns[name][row], 4) for name in RATINGS})
    return rated


def prepare_ratings(
    manifest: str | Path,
    out: str | Path,
    emotion_encoder: str,
    batch_seconds: float = 60.0,
    again: bool = False,
    max_left_out: float = MOST,
) -> Path:
    """Write a manifest in which every utterance that can be heard has ratings; one made from the same is kept.

    Ratings that a corpus states are never changed: an utterance with all three stays
    as it is, and in one with some of them only the others are filled. What was
    filled is marked in ``raw_labels["ratings"]`` as ``"pseudo: MODEL"``, followed by
    the filled dimensions in parentheses where they are not all three. A file that
    is unreadable, silent or shorter than 0.2 s costs a warning and its own ratings;
    where more than ``max_left_out`` of the utterances are, nothing is written.

    Args:
        manifest: Utterances, rated or not.
        out: Manifest to write, in the same order.
        emotion_encoder: Folder or model id of the frozen emotion encoder.
        batch_seconds: Most seconds of audio in a batch, padding included.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the utterances that may lack their audio file, or stay without ratings.

    Raises:
        InputError: If the emotion encoder is not one, or ``out`` cannot be written or was made from something else.
    """
    manifest, out = Path(manifest), Path(out)
    check_target(out, [manifest])
    utterances = read_chosen(manifest, most=max_left_out)
    made_from = {
        "manifest": digest(manifest),
        "recordings": recordings_digest((u.path for u in utterances), manifest.parent),
        "emotion_encoder": model_identity(emotion_encoder),
    }
    claim = Claim(out, made_from)
    if claim.is_done(again):
        return out
    encoder = _load(emotion_encoder)
    unrated = [index for index, u in enumerate(utterances) if _lacking(u)]
    unreadable: list[str] = []
    with progress_bar(total=len(unrated), what="ratings of voices") as progress:
        for batch in _batches([utterances[index] for index in unrated], batch_seconds):
            heard = _heard(utterances, [unrated[row] for row in batch], unreadable)
            refuse_lost([("that cannot be rated", reason) for reason in unreadable], len(utterances), max_left_out)
            if heard:
                for index, ratings in zip(heard, rate(encoder, list(heard.values())), strict=True):
                    utterances[index] = _filled(utterances[index], ratings, emotion_encoder)
            progress.update(len(batch))
    if unreadable:
        warnings.warn(f"{len(unreadable)} of {len(unrated)} unrated utterance(s) stay without ratings", stacklevel=2)
    claim.write()
    write_manifest(out, utterances)
    return out


def _batches(utterances: Sequence[Utterance], batch_seconds: float) -> Iterator[list[int]]:
    """Rows of like length."""
    if utterances:
        durations = SpeechDataset(utterances, MAX_SECONDS).durations()
        for batch in LengthBucketSampler(durations, batch_seconds, shuffle=False):
            yield [draw.row for draw in batch]


def _heard(utterances: Sequence[Utterance], indices: Sequence[int], unreadable: list[str]) -> dict[int, Tensor]:
    """The recordings that can be rated, by their indices; why others cannot is told and added."""
    heard = {}
    for index in indices:
        try:
            heard[index] = _read(utterances[index])
        except AudioError as error:
            warnings.warn(f"without ratings: {error}", stacklevel=3)
            unreadable.append(str(error))
    return heard


def _load(name_or_path: str) -> EmotionEncoder:
    try:
        encoder = EmotionEncoder.from_pretrained(name_or_path)
    except PretrainedError as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        raise InputError(f"emotion encoder {name_or_path} cannot be used: {error}"[:300]) from None
    return encoder.to(own_device())


def _lacking(utterance: Utterance) -> list[str]:
    return [name for name in RATINGS if getattr(utterance, name) is None]


def _read(utterance: Utterance) -> Tensor:
    last = utterance.start + MAX_SECONDS
    if utterance.end is not None:
        last = min(utterance.end, last)
    waveform = read(utterance.path, utterance.start, last)
    check_speech(waveform, utterance.path, longest=math.inf)
    return waveform


def _filled(utterance: Utterance, ratings: dict[str, float], model: str) -> Utterance:
    names = _lacking(utterance)
    mark = f"pseudo: {model}"
    if len(names) < len(RATINGS):
        mark += f" ({', '.join(names)})"
    filled = {name: ratings[name] for name in names}
    return replace(utterance, raw_labels={**utterance.raw_labels, "ratings": mark}, **filled)  # type: ignore[arg-type]
