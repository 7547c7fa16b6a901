"""Write the synthetic corpus of the small world: rendered questions with a manifest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from empathy_lightning.audio import SAMPLE_RATE, resample, write
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.files import check_folder, check_target
from empathy_lightning.jobs import Claim
from empathy_lightning.progress import progress_bar
from empathy_lightning.small_world.espeak import render
from empathy_lightning.small_world.voices import voice
from empathy_lightning.small_world.world import Sentence, draw_prosody, ratings, sentences
from empathy_lightning.utterance import EMOTIONS, Utterance


def drawn(split: str, count: int, seed: int) -> Iterator[tuple[Sentence, str, str]]:
    """Draw distinct sentences of a split, each with a voice and, in turn, an emotion."""
    generator = random.Random(f"{seed} {split}")
    pool = list(sentences(split))
    if count > len(pool):
        raise InputError(f"the {split} split has only {len(pool)} sentences, not {count}")
    pool = generator.sample(pool, count)
    for index, sentence in enumerate(pool):
        yield sentence, voice(split, generator), EMOTIONS[index % len(EMOTIONS)]


def write_synthetic_corpus(
    folder: str | Path,
    train: int = 3000,
    validation: int = 300,
    test: int = 300,
    seed: int = 0,
    again: bool = False,
) -> Path:
    """Render the corpus once; one of the same sizes and seed is kept.

    Args:
        folder: Where ``audio/`` and ``manifest.jsonl`` go.
        train: Utterances in the training split.
        validation: In the validation split: other voices and other sentences.
        test: In the test split: other voices and other sentences again.
        seed: Seed of all draws.
        again: Make anew what is there, whatever it was made from.

    Returns:
        The manifest.

    Raises:
        InputError: If eSpeak NG is not installed, or the folder cannot be written to or holds another corpus.
    """
    folder = Path(folder)
    manifest = folder / "manifest.jsonl"
    sizes = {"train": train, "validation": validation, "test": test}
    check_target(manifest, [])
    check_folder(folder / "audio")
    claim = Claim(manifest, {**sizes, "seed": seed})
    if claim.is_done(again):
        return manifest
    utterances = []
    with progress_bar(total=sum(sizes.values()), what="rendering questions") as bar:
        for split, count in sizes.items():
            for utterance in _rendered(folder / "audio", split, count, seed):
                utterances.append(utterance)
                bar.update()
    claim.write()
    write_manifest(manifest, utterances)
    return manifest


def _rendered(folder: Path, split: str, count: int, seed: int) -> Iterator[Utterance]:
    """Draw, render and write the questions of a split."""
    generator = random.Random(f"{seed} {split} prosody")
    for index, (sentence, speaker, emotion) in enumerate(drawn(split, count, seed)):
        prosody = draw_prosody(emotion, generator)
        waveform, rate = render(sentence.text, speaker, prosody)
        path = folder / f"{split}_{index:05d}.flac"
        speech = resample(torch.from_numpy(waveform), rate)
        write(path, speech)
        yield Utterance(
            id=path.stem,
            corpus="small-world (synthetic)",
            path=str(path),
            duration=round(len(speech) / SAMPLE_RATE, 4),
            transcript=sentence.text,
            language="en",
            speaker=speaker,
            split=split,
            emotion=emotion,
            **_rounded(ratings(prosody)),
        )


def _rounded(values: dict[str, float]) -> Any:
    return {name: round(value, 4) for name, value in values.items()}
