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
    encoder: str | None = None,
    layer: int | None = None,
    units: int = 1024,
    recordings: int = 600,
    hours: float = 10.0,
    batch_seconds: float = 60.0,
    seed: int = 0,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Fit a quantizer, which turns speech into units: k-means over mel spectra, or over a frozen encoder's layer.

    Args:
        manifest: Utterances with recordings; with an encoder those of their replies, where there are any.
        out: Folder of the quantizer.
        encoder: Folder or model id of a Whisper, HuBERT, wav2vec 2.0 or WavLM, or a folder of an encoder of your own
            (default: mel spectra, for voices that should keep their pitch).
        layer: Of the encoder, whose output is quantized, counted from 1.
        units: Number of units.
        recordings: Without an encoder, the most recordings of split train to fit to.
        hours: With an encoder, the most speech to hear.
        batch_seconds: With an encoder, the most seconds of audio in a batch.
        seed: Of all draws.

    Raises:
        InputError: If something cannot be used, or the folder holds what was made from something else.
    """
    from empathy_lightning.preparation.codebook import prepare_codebook
    from empathy_lightning.preparation.quantizer import prepare_quantizer

    counts = (("units", units), ("recordings", recordings), ("hours", hours), ("batch_seconds", batch_seconds))
    for name, value in counts:
        if value <= 0:
            raise InputError(f"--{name} must be above 0")
    if (encoder is None) != (layer is None):
        raise InputError("give --encoder and --layer together, or neither for a codebook of mel spectra")
    if encoder is None or layer is None:
        print(prepare_codebook(manifest, out, units, recordings, seed, again, allow_left_out))
        return
    how = (encoder, layer, units, hours, batch_seconds, seed, again, allow_left_out, trust)
    print(prepare_quantizer(manifest, out, *how))


def units(
    manifest: Path,
    /,
    *,
    out: Path,
    quantizer: str,
    train: int | None = None,
    per_shard: int = 256,
    trust: Trust = (),
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Turn the speech of the replies into speech units.

    Args:
        manifest: Utterances with spoken responses (response_path), as prepare speech writes them.
        out: Manifest with the units.
        quantizer: Folder of a part with encode(waveform), such as `prepare quantizer` makes; small-world/quantizer is
            the demo's.
        train: Most training replies to use (default: all).
        per_shard: Utterances in a shard, the most that an interruption costs; torchrun divides them among processes.

    Raises:
        InputError: If there are no replies to use, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.units import prepare_units

    if per_shard < 1:
        raise InputError("--per_shard must be 1 or more")
    print(prepare_units(manifest, out, quantizer, train, again, allow_left_out, trust, per_shard))
