"""A quantizer that is fitted to speech: k-means over a layer of any frozen encoder."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from empathy_lightning.audio import AudioError, duration_of, read
from empathy_lightning.checkpoints import load_part, save
from empathy_lightning.data.left_out import MOST, refuse_lost
from empathy_lightning.data.reading import read_chosen
from empathy_lightning.data.sampler import LengthBucketSampler
from empathy_lightning.devices import own_device
from empathy_lightning.digests import digest, recordings_digest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder
from empathy_lightning.jobs import Claim
from empathy_lightning.modules.kmeans_quantizer import KMeans, KMeansQuantizer
from empathy_lightning.modules.model_files import read_json_object
from empathy_lightning.modules.pretrained import opened
from empathy_lightning.modules.self_supervised_encoder import SelfSupervisedEncoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.preparation.identity import model_identity
from empathy_lightning.progress import progress_bar
from empathy_lightning.utterance import Utterance

Piece = tuple[str, float, float | None]
"""A recording, and from which second to which."""


def prepare_quantizer(
    manifest: str | Path,
    out: str | Path,
    encoder: str,
    layer: int,
    num_units: int = 1000,
    hours: float = 10.0,
    batch_seconds: float = 60.0,
    seed: int = 0,
    again: bool = False,
    max_left_out: float = MOST,
    trust: Sequence[str] = (),
) -> Path:
    """Fit k-means to a layer of a frozen encoder, in one pass over recordings, and save it as a quantizer.

    The recordings are those of the replies (``response_path``), or of the utterances where no reply has one, of split
    train, or of all utterances where none is in it, in a random order.

    Args:
        manifest: Utterances with recordings, files or rows of shards.
        out: Folder of the quantizer.
        encoder: Folder or model id of a Whisper, HuBERT, wav2vec 2.0 or WavLM, or the folder of an encoder of one's
            own that checkpoints.save wrote.
        layer: Whose output is quantised, counted from 1.
        num_units: Number of units.
        hours: Most speech to hear.
        batch_seconds: Most seconds of audio in a batch, padding included.
        seed: Of the order and of the first centres.
        again: Make anew what is there, whatever it was made from.
        max_left_out: Share of the recordings that may be unreadable.
        trust: Packages besides this library whose classes the encoder's folder may name.

    Raises:
        InputError: If the encoder or the recordings cannot be used, or the folder holds what was made from something
            else.
    """
    manifest, out = Path(manifest), Path(out)
    check_folder(out)
    pieces = _pieces(read_chosen(manifest, audio=False), manifest)
    made_from = {
        "manifest": digest(manifest),
        "recordings": recordings_digest((path for path, *_ in pieces), manifest.parent),
        "encoder": model_identity(encoder),
        **{"layer": layer, "num_units": num_units, "hours": hours, "batch_seconds": batch_seconds, "seed": seed},
    }
    claim = Claim(out / "model.safetensors", made_from)
    if claim.is_done(again):
        return out
    part = frozen_encoder(encoder, trust)
    quantizer = KMeansQuantizer(part, layer, num_units, _width(part, layer))
    quantizer.to(own_device())
    # A manifest may be sorted by speaker, and the hours end before it does.
    random.Random(seed).shuffle(pieces)
    # It waits for thirty vectors a unit before it chooses its first centres.
    means = KMeans(num_units, 30 * num_units, seed)
    quantizer.centres.copy_(_fitted(quantizer, pieces, means, hours, batch_seconds, max_left_out))
    claim.write()
    save(out, quantizer.cpu())
    return out


def frozen_encoder(name_or_path: str, trust: Sequence[str] = ()) -> nn.Module:
    """The encoder of a name: one of the families that there are, or a part of one's own.

    Raises:
        InputError: If it is none.
    """
    own = Path(name_or_path) / "config.json"
    if own.is_file() and read_json_object(own).get("library") == "empathy_lightning":
        return load_part(name_or_path, "", trust)
    with opened(name_or_path) as (folder, where):
        kind = AutoConfig.from_pretrained(folder, **where).model_type
    if kind == "whisper":
        return SpeechEncoder.from_pretrained(name_or_path)
    return SelfSupervisedEncoder.from_pretrained(name_or_path)


def _pieces(utterances: Sequence[Utterance], manifest: Path) -> list[Piece]:
    training = [u for u in utterances if u.split == "train"] or list(utterances)
    if not training:
        raise InputError(f"{manifest} has no utterances, so there is no speech to fit to")
    return pieces_of(training)


def pieces_of(utterances: Sequence[Utterance]) -> list[Piece]:
    """The recordings to fit a quantizer to: the replies' or, where no reply has one, the utterances' own."""
    # A dict, since several utterances may have one reply.
    replies: dict[Piece, None] = {(u.response_path, 0.0, None): None for u in utterances if u.response_path}
    return list(replies) or [(u.path, u.start, u.end) for u in utterances]


def _width(encoder: nn.Module, layer: int) -> int:
    """Width of a layer, heard on a second of silence."""
    probe: Any = KMeansQuantizer(encoder, layer, 1, 1)
    return int(probe.features(torch.zeros(1, 16_000), torch.tensor([16_000]))[0].shape[1])


def _fitted(
    quantizer: KMeansQuantizer, pieces: list[Piece], means: KMeans, hours: float, batch_seconds: float, most: float
) -> Tensor:
    """Centres after one pass over as many of the recordings as the hours hold."""
    device = quantizer.centres.device
    lost: list[tuple[str, str]] = []
    chosen, seconds = _within(pieces, hours, lost)
    with progress_bar(total=round(sum(seconds)), what=f"k-means over {sum(seconds) / 3600:.2f} hours") as progress:
        for rows in _batches(seconds, batch_seconds):
            waveforms = []
            for row in rows:
                try:
                    waveforms.append(read(*chosen[row]))
                except AudioError as error:
                    lost.append(("recordings that cannot be read", str(error)))
            refuse_lost(lost, len(pieces), most)
            if waveforms:
                padded = nn.utils.rnn.pad_sequence(waveforms, batch_first=True).to(device)
                lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
                means.add(torch.cat(quantizer.features(padded, lengths)))
            progress.update(round(sum(seconds[row] for row in rows)))
    refuse_lost(lost, len(pieces), most)
    return means.centres()


def _within(pieces: list[Piece], hours: float, lost: list[tuple[str, str]]) -> tuple[list[Piece], list[float]]:
    """The first recordings, up to the hours, with their seconds; what cannot be read is added to ``lost``."""
    chosen: list[Piece] = []
    seconds: list[float] = []
    left = 3600 * hours
    for piece in pieces:
        if left <= 0:
            break
        try:
            seconds.append(duration_of(*piece))
        except AudioError as error:
            lost.append(("recordings that cannot be read", str(error)))
            continue
        chosen.append(piece)
        left -= seconds[-1]
    return chosen, seconds


def _batches(seconds: Sequence[float], batch_seconds: float) -> Iterator[list[int]]:
    """Rows of like length."""
    if seconds:
        for batch in LengthBucketSampler(seconds, batch_seconds):
            yield [draw.row for draw in batch]
