"""The mel quantizer and the fit of its codebook."""

import pytest
import torch

from empathy_lightning.errors import InputError
from empathy_lightning.modules.mel_quantizer import MelQuantizer
from empathy_lightning.preparation.codebook import fit_codebook


def harmonic(frequency, seconds=1.0):
    time = torch.arange(round(seconds * 16_000)) / 16_000
    return sum(0.3 / k * torch.sin(2 * torch.pi * k * frequency * time) for k in range(1, 6))


def fitted(num_units=8, frequencies=(110.0, 160.0, 240.0), **given):
    quantizer = MelQuantizer(num_units, **given)
    fit_codebook(quantizer, [harmonic(frequency) for frequency in frequencies])
    return quantizer


def test_voices_of_different_pitch_share_no_unit():
    quantizer = fitted()
    inside = [set(quantizer.encode(harmonic(f))[2:-2].tolist()) for f in (110.0, 160.0, 240.0)]
    assert not inside[0] & inside[1] and not inside[1] & inside[2] and not inside[0] & inside[2]


def test_a_unit_stands_for_each_stretch_begun_and_later_speech_does_not_change_it():
    quantizer = fitted()
    waveform = harmonic(160.0)
    for samples in (0, 1, 639, 640, 641, 16_000):
        assert len(quantizer.encode(waveform[:samples])) == -(-samples // 640)
    changed = torch.cat([waveform[:8_000], harmonic(240.0, 0.5)])
    # Half a window beyond the stretch is heard.
    assert torch.equal(quantizer.encode(waveform)[:12], quantizer.encode(changed)[:12])


def test_the_nearest_centre_is_chosen_and_the_fit_does_not_depend_on_torch_s_generator():
    quantizer = fitted()
    stretches = quantizer.stretches(harmonic(130.0))
    distances = (stretches[:, None] - quantizer.codebook[None]).square().sum(2)
    assert torch.equal(quantizer.encode(harmonic(130.0)), distances.argmin(1))
    torch.manual_seed(1)
    assert torch.equal(fitted().codebook, quantizer.codebook)


def test_too_little_speech_for_a_codebook_is_refused():
    for waveforms in ([], [harmonic(110.0, 0.1)]):
        with pytest.raises(InputError, match="codebook"):
            fit_codebook(MelQuantizer(8), waveforms)
