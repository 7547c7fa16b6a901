"""The voice that the package brings along."""

import random
from importlib.resources import files

import pytest
import torch

from empathy_lightning.audio import resample
from empathy_lightning.checkpoints import load_quantizer, load_vocoder
from empathy_lightning.losses.spectral import MelDistance
from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.preparation.tones import read_tones
from empathy_lightning.small_world.world import reply, sentences
from empathy_lightning.utterance import EMOTIONS, Utterance


@pytest.fixture(scope="module")
def voice():
    return load_quantizer("small-world/quantizer"), load_vocoder("small-world/vocoder")


def test_both_belong_together_and_are_small(voice):
    quantizer, vocoder = voice
    assert quantizer.num_units == vocoder.num_units and quantizer.samples_per_unit == vocoder.samples_per_unit
    folder = files("empathy_lightning") / "backbones"
    weights = [(folder / name / "model.safetensors").stat().st_size for name in ("vocoder", "quantizer")]
    assert sum(weights) < 5_000_000


@torch.no_grad()
def test_a_reply_to_a_held_out_sentence_keeps_its_sound_its_style_and_its_length(voice):
    pytest.importorskip("espeakng_loader")
    quantizer, vocoder = voice
    distance, draw = MelDistance(), random.Random(4)
    pitches = []
    tones = read_tones("recipe:speech/espeak")
    for emotion in EMOTIONS:
        words = reply(draw.choice(list(sentences("validation"))), emotion, draw)
        asked = Utterance(id="1", corpus="world", path="1.wav", emotion=emotion)
        waveform, rate = tones.engine.say(words, tones.style_of(asked), 0)
        recorded = resample(waveform, rate)
        spoken = vocoder(quantizer.encode(recorded)[None])[0]
        assert 0 <= len(spoken) - len(recorded) < quantizer.samples_per_unit
        # About 0.25 on average; units of silence are 2 and more away.
        assert distance(spoken[None, : len(recorded)], recorded[None]) < 0.4
        told, true = (prosody(sound, len(words.split())) for sound in (spoken, recorded))
        assert told["f0_mean"] == pytest.approx(true["f0_mean"], rel=0.08)
        pitches.append(told["f0_mean"])
    assert [EMOTIONS[index] for index in sorted(range(5), key=pitches.__getitem__)] == [
        "sad", "angry", "neutral", "happy", "surprised",
    ]  # fmt: skip


@torch.no_grad()
def test_spoken_in_blocks_it_is_the_same(voice):
    _, vocoder = voice
    units, reach, each = torch.arange(90)[None] * 11 % 1024, vocoder.context, vocoder.samples_per_unit
    whole = vocoder(units)
    for start in range(0, 90, 15):
        first = max(0, start - reach)
        block = vocoder(units[:, first : start + 15 + reach])[:, (start - first) * each :][:, : 15 * each]
        torch.testing.assert_close(block, whole[:, start * each : (start + 15) * each], atol=1e-3, rtol=0)
