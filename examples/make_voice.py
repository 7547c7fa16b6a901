"""Render the speech from which the demo's voice is trained: replies of the small world's training split by eSpeak NG.

    python examples/make_voice.py --out voice
    empathy-lightning prepare quantizer voice/manifest.jsonl --out voice/quantizer
    empathy-lightning fit --config recipe:demo/vocoder --model.quantizer.folder voice/quantizer

No sentence of the test split is in it. Any other folder of recordings with a manifest can take its place:
docs/how-to/your-own-voice.md.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from empathy_lightning.audio import SAMPLE_RATE, resample, write
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.preparation.tones import Tones, read_tones
from empathy_lightning.progress import progress_bar
from empathy_lightning.small_world.world import Sentence, reply, sentences
from empathy_lightning.utterance import EMOTIONS, Utterance


def said(tones: Tones, sentence: Sentence, emotion: str, split: str, path: Path, generator: random.Random) -> Utterance:
    """Render a reply to a file."""
    words = reply(sentence, emotion, generator)
    waveform, rate = tones.engine.say(words, tones.style_of(emotion), 0)
    speech = resample(waveform, rate)
    write(path, speech)
    seconds = round(len(speech) / SAMPLE_RATE, 4)
    facts = {"transcript": words, "emotion": emotion, "split": split, "duration": seconds, "language": "en"}
    return Utterance(id=path.stem, corpus="small-world replies (synthetic)", path=str(path), **facts)


def main(out: Path, train: int, validation: int, seed: int) -> None:
    """Write recordings and their manifest."""
    (out / "audio").mkdir(parents=True, exist_ok=True)
    utterances = []
    tones = read_tones("recipe:speech/espeak")
    for split, count in (("train", train), ("validation", validation)):
        generator = random.Random(f"{seed} {split} voice")
        drawn = generator.sample(list(sentences(split)), count)
        for index, sentence in enumerate(progress_bar(drawn, what=f"rendering {split}")):
            path = out / "audio" / f"{split}_{index:05d}.flac"
            utterances.append(said(tones, sentence, EMOTIONS[index % len(EMOTIONS)], split, path, generator))
    write_manifest(out / "manifest.jsonl", utterances)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--validation", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
