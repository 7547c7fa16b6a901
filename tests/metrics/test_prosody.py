import math

import pytest
import torch

from empathy_lightning.metrics.prosody import prosody


@pytest.mark.parametrize("frequency", [100.0, 180.0, 300.0])
def test_a_tone_has_its_frequency_and_no_range(frequency):
    time = torch.arange(16_000) / 16_000
    figures = prosody(torch.sin(2 * torch.pi * frequency * time), words=3)
    assert abs(figures["f0_mean"] - frequency) < 0.04 * frequency
    assert figures["f0_range"] < 5


def test_silence_at_the_ends_is_not_speaking_time():
    time = torch.arange(16_000) / 16_000
    tone = torch.nn.functional.pad(torch.sin(2 * torch.pi * 200 * time), (16_000, 16_000))
    assert abs(prosody(tone, words=3)["rate"] - 3) < 0.2


def test_a_glide_has_a_range():
    time = torch.arange(16_000) / 16_000
    glide = torch.sin(2 * torch.pi * (150 * time + 50 * time.square()))
    assert 60 < prosody(glide, 1)["f0_range"] < 100


def test_silence_is_refused():
    with pytest.raises(ValueError, match="sound"):
        prosody(torch.zeros(16_000), 1)


def test_energy_is_the_power_in_decibels_and_its_range_that_of_its_parts():
    time = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 200 * time)
    # A sine of amplitude a has the power a^2 / 2.
    for amplitude in (0.1, 0.5):
        figures = prosody(amplitude * tone, words=3)
        assert abs(figures["energy"] - 10 * math.log10(amplitude**2 / 2)) < 0.1 and figures["energy_range"] < 0.2
    halves = torch.cat([0.5 * tone[:8_000], 0.25 * tone[8_000:]])
    assert abs(prosody(halves, words=3)["energy_range"] - 20 * math.log10(2)) < 0.2
