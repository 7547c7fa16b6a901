"""How well a voice is understood, and how it sounds, beside Griffin-Lim from the same units and the recordings.

    python benchmarks/vocoder.py outputs/demo/corpus/units.jsonl --checkpoint outputs/demo/speech_decoder \
        --recogniser openai/whisper-tiny.en

Prints a table over the first replies of a split: word errors of an open recogniser, DNSMOS where speechmos is
installed (extra `evaluation`), distance of log mel bands from the recording, and seconds of work for a second of
speech on one thread. The last line is the verdict; exit 1 if an aim is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torchaudio
from torch import Tensor

from empathy_lightning.audio import read, write
from empathy_lightning.chatbot import EmpatheticChatbot
from empathy_lightning.checkpoints import load_vocoder
from empathy_lightning.data.manifest import read_manifest
from empathy_lightning.evaluation.reply_speech import SpeechRecogniser
from empathy_lightning.losses.spectral import MelDistance
from empathy_lightning.progress import progress_bar
from empathy_lightning.small_world.figures import speak_text
from empathy_lightning.utterance import Utterance

AIMS = {"renderings": 0.12, "true units": 0.03, "generated": 0.06, "dnsmos": 0.15}
"""Word error rate of the recordings, how much more it may be from units, and how much lower DNSMOS."""


class GriffinLim:
    """What a codebook can say by itself: each unit sounds as the mean log spectrum of its stretches.

    Args:
        replies: Recordings with units, from which the spectra are taken.
        samples_per_unit: Of the units.
        num_units: Size of their vocabulary.
    """

    def __init__(self, replies: Sequence[Utterance], samples_per_unit: int, num_units: int) -> None:
        self.hop, self.n_fft = 160, 640
        self.frames = samples_per_unit // self.hop
        self.phase = torchaudio.transforms.GriffinLim(self.n_fft, n_iter=32, hop_length=self.hop, power=1.0)
        sums = torch.zeros(num_units, self.frames * (self.n_fft // 2 + 1))
        counts = torch.zeros(num_units)
        for reply in progress_bar(replies, what="mean spectra"):
            units = torch.tensor(reply.units)
            waveform = read(reply.response_path or "")
            waveform = torch.nn.functional.pad(waveform, (0, len(units) * samples_per_unit - len(waveform)))
            window = torch.hann_window(self.n_fft)
            spectrum = torch.stft(waveform, self.n_fft, self.hop, window=window, return_complex=True).abs()
            frames = spectrum[:, : len(units) * self.frames].clamp(min=1e-4).log().T
            sums.index_add_(0, units, frames.reshape(len(units), -1))
            counts.index_add_(0, units, torch.ones(len(units)))
        self.spectra = sums / counts.clamp(min=1)[:, None]

    def __call__(self, units: Tensor) -> Tensor:
        """Waveforms (1, T) of units (1, U), with a fixed seed."""
        torch.manual_seed(0)
        spectrum = self.spectra[units[0]].reshape(-1, self.n_fft // 2 + 1).T.exp()
        return self.phase(spectrum).clamp(-1, 1)[None]


def timed(vocoder: Callable[[Tensor], Tensor], replies: Sequence[Utterance]) -> tuple[list[Tensor], float]:
    """What a vocoder makes of the replies' units, and seconds of work for a second of speech."""
    spoken, begin = [], time.perf_counter()
    with torch.inference_mode():
        for reply in replies:
            spoken.append(vocoder(torch.tensor([reply.units]))[0])
    return spoken, (time.perf_counter() - begin) / (sum(map(len, spoken)) / 16_000)


def word_error_rate(recogniser: SpeechRecogniser, spoken: Sequence[Tensor], replies: Sequence[Utterance]) -> float:
    """Errors over all words."""
    errors = words = 0
    for start in progress_bar(range(0, len(replies), 10), what="listening"):
        heard = recogniser.transcribe(spoken[start : start + 10], ["en"] * len(spoken[start : start + 10]))
        for (text, _), reply in zip(heard, replies[start : start + 10], strict=True):
            found = recogniser.compare(reply.response or "", text, "en", 0.0)
            errors, words = errors + found.word_errors, words + found.words
    return errors / words


def dnsmos(spoken: Sequence[Tensor]) -> float | None:
    """Mean overall score; None where speechmos is not installed."""
    try:
        from speechmos import dnsmos as scorer
    except ImportError:
        return None
    scores = [scorer.run(w.clamp(-1, 1).numpy(), sr=16_000)["ovrl_mos"] for w in progress_bar(spoken, what="DNSMOS")]
    return float(sum(scores) / len(scores))


def mel_distance(spoken: Sequence[Tensor], recorded: Sequence[Tensor]) -> float:
    """Mean over the replies, in nepers."""
    distance = MelDistance()
    found = []
    for own, true in zip(spoken, recorded, strict=True):
        length = min(len(own), len(true))
        found.append(float(distance(own[None, :length], true[None, :length])))
    return sum(found) / len(found)


def measured(options: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    """Figures by the kind of speech."""
    all_replies = [u for u in read_manifest(options.manifest) if u.units and u.response_path]
    replies = [u for u in all_replies if u.split == options.split][: options.replies]
    vocoder = load_vocoder(options.vocoder)
    bare = GriffinLim([u for u in all_replies if u.split == "train"][:400], vocoder.samples_per_unit, vocoder.num_units)
    recorded = [read(u.response_path or "") for u in replies]
    speech = {"renderings": recorded}
    factors: dict[str, float] = {}
    speech["true units"], factors["true units"] = timed(vocoder, replies)
    speech["Griffin-Lim, true units"], factors["Griffin-Lim, true units"] = timed(bare, replies)
    if options.checkpoint:
        bot = EmpatheticChatbot.from_pretrained(options.checkpoint)
        speech["generated"] = [speak_text(bot, u) for u in progress_bar(replies, what="speaking")]
    if options.out:
        for kind, spoken in speech.items():
            for reply, waveform in zip(replies[:10], spoken, strict=False):
                write(options.out / kind.replace(" ", "_") / f"{reply.id}.wav", waveform)
    recogniser = SpeechRecogniser(options.recogniser)
    return {
        kind: {
            "word_error_rate": word_error_rate(recogniser, spoken, replies),
            "dnsmos": dnsmos(spoken),
            # What is generated has a length of its own.
            "mel_distance": None if kind == "generated" else mel_distance(spoken, recorded),
            "real_time_factor": factors.get(kind),
        }
        for kind, spoken in speech.items()
    }


def verdict(found: dict[str, dict[str, float | None]]) -> list[str]:
    """The aims that are missed."""
    rendered, missed = found["renderings"], []
    if (rendered["word_error_rate"] or 0) > AIMS["renderings"]:
        missed.append("word errors of the renderings")
    for kind in ("true units", "generated"):
        figures = found.get(kind)
        if figures is None:
            continue
        if (figures["word_error_rate"] or 0) > (rendered["word_error_rate"] or 0) + AIMS[kind]:
            missed.append(f"word errors, {kind}")
        if (figures["dnsmos"] or 0) < (rendered["dnsmos"] or 0) - AIMS["dnsmos"]:
            missed.append(f"DNSMOS, {kind}")
    return missed


def main(options: argparse.Namespace) -> int:
    """Measure, print, judge."""
    torch.set_num_threads(1)
    found = measured(options)
    columns = ("word_error_rate", "dnsmos", "mel_distance", "real_time_factor")
    print(f"{'':<26}" + "".join(f"{name:>18}" for name in columns))
    for kind, figures in found.items():
        cells = ["-" if (value := figures[name]) is None else f"{value:.3f}" for name in columns]
        print(f"{kind:<26}" + "".join(f"{cell:>18}" for cell in cells))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    missed = verdict(found)
    print("missed: " + "; ".join(missed) if missed else "all aims are met")
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="replies with recordings and units")
    parser.add_argument("--recogniser", required=True, help="Whisper's id or folder")
    parser.add_argument("--vocoder", default="small-world/vocoder")
    parser.add_argument("--checkpoint", help="a bot that speaks; without one nothing is generated")
    parser.add_argument("--split", default="test")
    parser.add_argument("--replies", type=int, default=100)
    parser.add_argument("--out", type=Path, help="where ten recordings of each kind go")
    parser.add_argument("--json", type=Path)
    sys.exit(main(parser.parse_args()))
