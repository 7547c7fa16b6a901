"""``prepare transcripts``, ``speech``, ``quantizer``, ``units``: words of recordings, and replies as speech units."""

from __future__ import annotations

from pathlib import Path

from empathy_lightning.commands.options import Again, AllowLeftOut, ManifestFile, Trust
from empathy_lightning.errors import InputError


def transcripts(
    manifest: ManifestFile,
    /,
    *,
    out: Path,
    asr: str,
    language: str | None = None,
    per_shard: int = 512,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Write down what is said in recordings that come without words.

    Args:
        manifest: Utterances, with transcripts or not; those that are there stay.
        out: Manifest with the transcripts, .jsonl or .parquet.
        asr: Recogniser, a Whisper such as openai/whisper-large-v3 or another of transformers' (model id or folder).
        language: Code of all recordings' language, or auto to hear it (default: each utterance's own).
        per_shard: Utterances in a shard; under torchrun the processes share them.

    Raises:
        InputError: If something cannot be used, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.transcripts import prepare_transcripts

    if per_shard < 1:
        raise InputError("--per_shard must be 1 or more")
    print(prepare_transcripts(manifest, out, asr, language, per_shard, again, allow_left_out))


def speech(
    manifest: ManifestFile,
    /,
    *,
    out: Path,
    tones: str = "recipe:speech/espeak",
    transcripts: bool = False,
    users: bool = False,
    train: int | None = None,
    seed: int = 0,
    per_shard: int = 256,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Say each reply in the tone that suits the emotion which it answers.

    Args:
        manifest: Utterances with responses, or a .txt file with a text a line.
        out: Manifest to write, .jsonl or .parquet; the speech goes to OUT.speech.
        tones: YAML with the engine and the tone that answers each emotion (a file, or recipe:NAME).
        transcripts: Say what the utterances say themselves; it becomes their response.
        users: Say what the utterances say as the users' own speech, which becomes their recording.
        train: Most training replies to say (default: all).
        seed: Of the engine's draws.
        per_shard: Utterances in a shard; under torchrun the processes share them.

    Raises:
        InputError: If something cannot be used or said, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.speech import prepare_speech

    if per_shard < 1:
        raise InputError("--per_shard must be 1 or more")
    if transcripts and users:
        raise InputError("give --transcripts or --users, not both")
    how = (seed, transcripts, train, per_shard, again, allow_left_out, users)
    print(prepare_speech(manifest, out, tones, *how))


def copies(
    manifest: ManifestFile,
    /,
    *,
    out: Path,
    count: int = 1,
    noise: tuple[float, float] = (5.0, 30.0),
    rooms: tuple[float, float] = (0.1, 0.7),
    noise_folder: str | None = None,
    seed: int = 0,
    again: Again = False,
    allow_left_out: AllowLeftOut = 0.01,
) -> None:
    """Copy the training recordings as if heard in rooms and with noise.

    Args:
        manifest: Utterances with recordings.
        out: Manifest to write, .jsonl or .parquet: all utterances and the copies; their speech goes to OUT.speech.
        count: Copies of each training utterance.
        noise: Lowest and highest signal-to-noise ratio in dB.
        rooms: Shortest and longest reverberation time in seconds.
        noise_folder: Recordings of noise (default: white noise).
        seed: Of all draws.

    Raises:
        InputError: If something cannot be read, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.copies import prepare_copies

    if count < 1:
        raise InputError("--count must be 1 or more")
    print(prepare_copies(manifest, out, count, noise, rooms, noise_folder, seed, again, allow_left_out))


def quantizer(
    manifest: ManifestFile,
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
    manifest: ManifestFile,
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
