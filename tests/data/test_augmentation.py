import pytest
import soundfile
import torch

from empathy_lightning.audio import AudioError
from empathy_lightning.data.augmentation import Augmentation

TONE = 0.3 * torch.sin(torch.arange(16_000) * 0.1)


def ratio(clean, changed):
    """Signal-to-noise ratio in dB."""
    return float(10 * torch.log10(clean.square().sum() / (changed - clean).square().sum()))


def test_noise_has_the_ratio_that_was_asked_for(tmp_path):
    soundfile.write(tmp_path / "hum.wav", torch.randn(3_000).numpy() * 0.1, 8_000)
    for folder in (None, str(tmp_path)):
        augment = Augmentation((12.0, 12.0), folder, drop_frequencies=False, drop_stretches=False, probability=1.0)
        changed = augment(TONE)
        assert changed.shape == TONE.shape and abs(ratio(TONE, changed) - 12.0) < 0.1


def test_speed_changes_the_length_and_nothing_else_does():
    slow = Augmentation(None, drop_frequencies=False, drop_stretches=False, speeds=(0.8,), probability=1.0)
    assert abs(len(slow(TONE)) - 20_000) < 20
    other = Augmentation(probability=1.0)
    assert not other.speeds and all(len(other(TONE)) == len(TONE) for _ in range(10))


def test_stretches_fall_silent():
    augment = Augmentation(None, drop_frequencies=False, probability=1.0)
    assert any((augment(TONE + 1) == 0).sum() >= 100 for _ in range(5))


def test_probability_zero_changes_nothing():
    assert torch.equal(Augmentation(probability=0.0)(TONE), TONE)


def test_silence_stays_silent_and_a_folder_without_noise_is_named(tmp_path):
    assert torch.equal(Augmentation(probability=1.0, drop_stretches=False, drop_frequencies=False)(0 * TONE), 0 * TONE)
    with pytest.raises(AudioError, match="no WAV or FLAC"):
        Augmentation(noise_folder=str(tmp_path), probability=1.0)(TONE)
