import torch

from empathy_lightning.metrics.prosody import prosody
from empathy_lightning.modules.vocoder import Vocoder, griffin_lim
from empathy_lightning.preparation.units import fit_vocoder


def harmonic(frequency, seconds=1.0):
    time = torch.arange(round(seconds * 16_000)) / 16_000
    return sum(0.3 / k * torch.sin(2 * torch.pi * k * frequency * time) for k in range(1, 6))


def test_griffin_lim_keeps_the_spectrum():
    window = torch.hann_window(1024)
    waveform = harmonic(180.0)
    magnitude = torch.stft(waveform, 1024, 320, window=window, return_complex=True).abs()
    rebuilt = griffin_lim(magnitude, window, 320)
    again = torch.stft(rebuilt, 1024, 320, window=window, return_complex=True).abs()
    assert (again[:, : magnitude.shape[1]] - magnitude).norm() / magnitude.norm() < 0.15


def test_pitch_and_length_survive_the_units():
    waveforms = [harmonic(frequency) for frequency in (110.0, 150.0, 200.0, 260.0)]
    vocoder = Vocoder(num_units=24)
    fit_vocoder(vocoder, waveforms)
    for waveform, frequency in zip(waveforms, (110.0, 150.0, 200.0, 260.0), strict=True):
        units = vocoder.encode(waveform)
        assert abs(len(units) / vocoder.units_per_second - 1.0) < 0.1
        assert abs(prosody(vocoder(units[None])[0], 1)["f0_mean"] - frequency) < 0.06 * frequency


def test_different_units_sound_different_and_no_units_are_silence():
    vocoder = Vocoder(num_units=8)
    fit_vocoder(vocoder, [harmonic(f) for f in (120.0, 240.0)])
    assert not torch.allclose(vocoder(torch.zeros(1, 10, dtype=torch.long)), vocoder(torch.arange(10)[None] % 8))
    assert vocoder(torch.zeros(1, 0, dtype=torch.long)).shape == (1, 0)


def test_a_reply_of_few_units_has_a_sound():
    vocoder = Vocoder(num_units=8)
    vocoder.spectra.copy_(torch.randn(vocoder.spectra.shape))
    for count in range(5):
        waveform = vocoder(torch.arange(count)[None])[0]
        assert len(waveform) == max(0, 2 * count - 1) * vocoder.hop_length and waveform.isfinite().all()
        assert not count or waveform.abs().max() > 0.01
