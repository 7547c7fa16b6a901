"""``prepare transcripts`` and ``prepare speech``: words of recordings and recordings of words."""

from __future__ import annotations

from pathlib import Path

from empathy_lightning.commands.options import Again, AllowLeftOut
from empathy_lightning.errors import InputError


def transcripts(
    manifest: Path,
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
    manifest: Path,
    /,
    *,
    out: Path,
    tones: str = "recipe:speech/espeak",
    transcripts: bool = False,
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
        train: Most training replies to say (default: all).
        seed: Of the engine's draws.
        per_shard: Utterances in a shard; under torchrun the processes share them.

    Raises:
        InputError: If something cannot be used or said, or the place holds what was made from something else.
    """
    from empathy_lightning.preparation.speech import prepare_speech

    if per_shard < 1:
        raise InputError("--per_shard must be 1 or more")
    how = (seed, transcripts, train, per_shard, again, allow_left_out)
    print(prepare_speech(manifest, out, tones, *how))
