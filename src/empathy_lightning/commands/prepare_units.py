"""``prepare quantizer`` and ``prepare units``: what the speech decoder learns to write."""

from __future__ import annotations

from pathlib import Path

from empathy_lightning.commands.options import Again, AllowLeftOut, Trust
from empathy_lightning.errors import InputError


def quantizer(
    manifest: Path,
    /,
    *,
    out: Path,
    encoder: str,
    layer: int,
    units: int = 1000,
    hours: float = 10.0,
    batch_seconds: float = 60.0,
    seed: int = 0,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Fit k-means to a layer of a frozen encoder, which makes it a quantizer.

    Args:
        manifest: Utterances with recordings: those of their replies where there are any, else their own.
        out: Folder of the quantizer.
        encoder: Folder or model id of a Whisper, HuBERT, wav2vec 2.0 or WavLM, or a folder of an encoder of your own.
        layer: Whose output is quantized, counted from 1.
        units: Number of units.
        hours: Most speech to hear.
        batch_seconds: Most seconds of audio in a batch.
        seed: Of all draws.

    Raises:
        InputError: If something cannot be used, or the folder holds what was made from something else.
    """
    from empathy_lightning.preparation.quantizer import prepare_quantizer

    for name, value in (("units", units), ("hours", hours), ("batch_seconds", batch_seconds)):
        if value <= 0:
            raise InputError(f"--{name} must be above 0")
    how = (encoder, layer, units, hours, batch_seconds, seed, again, allow_left_out, trust)
    print(prepare_quantizer(manifest, out, *how))


def units(
    manifest: Path,
    /,
    *,
    out: Path,
    vocoder: Path | None = None,
    quantizer: Path | None = None,
    train: int | None = None,
    render: bool = False,
    per_shard: int = 256,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Turn the speech of the replies into speech units.

    Args:
        manifest: Utterances with responses, spoken or not.
        out: Manifest with the units.
        vocoder: Folder of the vocoder that is also the quantizer; fitted if it is not there.
        quantizer: Folder of a quantizer instead, a part with encode(waveform).
        train: Most training replies to use (default: all).
        render: Say every reply with eSpeak NG (default: only where no reply has a recording, response_path).
        per_shard: Utterances in a shard, the most that an interruption costs; torchrun divides them among processes.

    Raises:
        InputError: If there are no replies to use, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.units import prepare_units

    if per_shard < 1:
        raise InputError("--per_shard must be 1 or more")
    written = prepare_units(
        manifest,
        out,
        vocoder,
        train,
        render,
        again,
        max_left_out=allow_left_out,
        quantizer_folder=quantizer,
        trust=trust,
        per_shard=per_shard,
    )
    print(written)
