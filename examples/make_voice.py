"""Make the demo's voice, from replies of the small world's training split that eSpeak NG renders.

    python examples/make_voice.py render --out voice
    empathy-lightning prepare quantizer voice/manifest.jsonl --out voice/quantizer
    empathy-lightning fit --config recipe:demo/vocoder
    empathy-lightning fit --config recipe:demo/vocoder_adversarial
    python examples/make_voice.py pack --out packed

No sentence of the test split is in it. ``pack`` writes the vocoder and its quantizer in half precision, with the time
and the figures of the training in a README.json beside each, as the package brings them along. Recordings of a real
voice can take the place of the rendered ones: docs/how-to/your-own-voice.md.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from empathy_lightning.audio import SAMPLE_RATE, resample, write
from empathy_lightning.checkpoints import load_quantizer, load_vocoder, save
from empathy_lightning.data.manifest import write_manifest
from empathy_lightning.preparation.speech_engines import Recordings
from empathy_lightning.preparation.tones import Tones, read_tones
from empathy_lightning.progress import progress_bar
from empathy_lightning.small_world.world import Sentence, reply, sentences
from empathy_lightning.utterance import EMOTIONS, Utterance


def said(tones: Tones, sentence: Sentence, emotion: str, split: str, path: Path, generator: random.Random) -> Utterance:
    """Render a reply to a file."""
    found = Utterance(
        id=path.stem,
        corpus="small-world replies (synthetic)",
        path=str(path),
        transcript=reply(sentence, emotion, generator),
        language="en",
        split=split,
        emotion=emotion,
    )
    style = tones.style_of(found)
    assert style is not None and not isinstance(tones.engine, Recordings)
    waveform, rate = tones.engine.say(found.transcript or "", style, 0)
    speech = resample(waveform, rate)
    write(path, speech)
    found.duration = round(len(speech) / SAMPLE_RATE, 4)
    return found


def render_all(out: Path, train: int, validation: int, seed: int) -> None:
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


def pack(out: Path, voice: Path, runs: list[Path]) -> None:
    """Write what the package brings along.

    Args:
        out: Folder of the two.
        voice: Where ``manifest.jsonl`` and the quantizer lie.
        runs: Folders of the trainings, each of which began with the weights of the one before.
    """
    vocoder, quantizer = load_vocoder(str(runs[-1])), load_quantizer(str(voice / "quantizer"))
    trainings = []
    for run in runs:
        training = json.loads((run / "training.json").read_text())
        minutes = round(training["seconds"] / 60, 1)
        trainings.append({"run": run.name, "minutes": minutes, "seed": 0, **training["history"][-1]})
    facts = {"made_by": "examples/make_voice.py", "data": "synthetic: eSpeak NG, the small world's training split"}
    fitted = json.loads((voice / "quantizer/model.safetensors.made_from.json").read_text())
    stated = {
        "vocoder": {**facts, "parameters": sum(p.numel() for p in vocoder.parameters()), "trainings": trainings},
        "quantizer": {**facts, **{name: fitted[name] for name in ("num_units", "recordings", "seed")}},
    }
    for name, part in (("vocoder", vocoder), ("quantizer", quantizer)):
        save(out / name, part.half())
        (out / name / "README.json").write_text(json.dumps(stated[name], indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    first = steps.add_parser("render")
    first.add_argument("--out", type=Path, required=True)
    first.add_argument("--train", type=int, default=1500)
    first.add_argument("--validation", type=int, default=100)
    first.add_argument("--seed", type=int, default=0)
    first.set_defaults(step=render_all)
    last = steps.add_parser("pack")
    last.add_argument("--out", type=Path, required=True)
    last.add_argument("--voice", type=Path, default=Path("voice"))
    made = [Path("outputs/demo_voice/vocoder_spectral"), Path("outputs/demo_voice/vocoder")]
    last.add_argument("--runs", type=Path, nargs="+", default=made)
    last.set_defaults(step=pack)
    words = vars(parser.parse_args())
    words.pop("step")(**words)
