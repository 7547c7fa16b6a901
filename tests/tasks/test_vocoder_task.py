"""The training of a vocoder: what it compares, what learns, and what it leaves."""

import lightning as L
import pytest
import torch
from transformers import MimiConfig

from empathy_lightning.audio import resample, write
from empathy_lightning.data import Manifest, write_manifest
from empathy_lightning.data.augmentation import Augmentation
from empathy_lightning.data.batch import batch_of
from empathy_lightning.data.datamodule import EmpathyDataModule
from empathy_lightning.errors import InputError
from empathy_lightning.losses import AdversarialLoss, MultiResolutionSpectralLoss
from empathy_lightning.losses.spectral import MelDistance, magnitude
from empathy_lightning.modules.kmeans_quantizer import KMeansQuantizer
from empathy_lightning.modules.mel_quantizer import MelQuantizer
from empathy_lightning.modules.mimi import MimiCodec
from empathy_lightning.modules.speech_encoder import EncodedSpeech
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.modules.vocoders.mimi_vocoder import MimiVocoder
from empathy_lightning.modules.vocoders.unit_hifigan import UnitHifiGan
from empathy_lightning.outputs import VocoderOutput
from empathy_lightning.preparation.codebook import fit_codebook
from empathy_lightning.tasks import VocoderTask
from empathy_lightning.utterance import Utterance
from tests.modules.test_mel_quantizer import harmonic
from tests.modules.vocoders.test_mimi import TINY
from tests.tiny import adamw


def task(**given):
    torch.manual_seed(0)
    quantizer = MelQuantizer(16)
    fit_codebook(quantizer, [harmonic(f) for f in (110.0, 170.0, 250.0)])
    return VocoderTask(NeuralVocoder(16, 32, 2), quantizer, optimizer=adamw(5e-3), stretch=6, **given)


def pair(seed=0):
    spoken, recorded = torch.randn(2, 2, 3_840, generator=torch.Generator().manual_seed(seed)) * 0.1
    return VocoderOutput(torch.zeros(()), spoken.requires_grad_(), recorded, torch.zeros(2, 6, dtype=torch.long))


def test_the_stretches_are_the_recording_s_and_their_units_those_of_the_whole_recording():
    trained = task().eval()
    recording = torch.cat([harmonic(110.0, 0.48), harmonic(250.0, 0.48)])
    output = trained.output(batch_of([recording]))
    # From the middle: the recording's 24 units and 2 of silence on either side leave 18 to choose the start from.
    first = 9 * 640
    torch.testing.assert_close(output.recorded[0], recording[first : first + 6 * 640])
    assert torch.equal(output.units[0], trained.quantizer.encode(recording)[9:15])
    trained.train()
    starts = {tuple(trained.output(batch_of([recording])).units[0].tolist()) for _ in range(8)}
    assert len(starts) > 1


def test_a_recording_shorter_than_a_stretch_ends_in_silence():
    output = task().eval().output(batch_of([harmonic(110.0, 0.1)]))
    assert output.recorded.shape == (1, 6 * 640) and not output.recorded[0, 1_600:].any()


class Heard(torch.nn.Module):
    """A loss that remembers what it was given."""

    def forward(self, output, batch):
        self.output = output
        return output.mel_loss.new_zeros(())


def fitted(vocoder, quantizer, folder, tones, augmentation=None):
    """What was heard in a step over recordings of tones (Hz) at 24 kHz."""
    rows = []
    for number, tone in enumerate(tones):
        path = folder / f"{number}.wav"
        write(path, 0.3 * torch.sin(2 * torch.pi * tone / 24_000 * torch.arange(24_000)), 24_000)
        split = "validation" if number == 0 else "train"
        rows.append(Utterance(id=str(number), corpus="tones", path=str(path), split=split))
    write_manifest(folder / "manifest.jsonl", rows)
    heard = Heard()
    trained = VocoderTask(vocoder, quantizer, auxiliary_losses={"heard": heard})
    data = EmpathyDataModule([Manifest(str(folder / "manifest.jsonl"))], augmentation=augmentation)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_steps=1, accelerator="cpu", use_distributed_sampler=False, **quiet)
    trainer.fit(trained, data)
    return heard.output


def test_a_vocoder_learns_at_its_own_rate_from_units_of_a_quantizer_at_another(tmp_path):
    vocoder, quantizer = NeuralVocoder(16, 8, 1, hop_length=240, sample_rate=24_000), MelQuantizer(16)
    fit_codebook(quantizer, [harmonic(f) for f in (110.0, 170.0, 250.0)])
    output = fitted(vocoder, quantizer, tmp_path, [10_000, 10_000])
    recorded = output.recorded[0]
    # 16 kHz have no tone of 10 kHz.
    assert len(recorded) == 12 * 960 and torch.fft.rfft(recorded).abs().argmax() == round(10_000 * 12 * 0.04)
    trained = VocoderTask(vocoder, quantizer, stretch=6).eval()
    recording = resample(torch.cat([harmonic(110.0, 0.48), harmonic(250.0, 0.48)]), 16_000, 24_000)
    heard = trained.output(batch_of([recording]))
    torch.testing.assert_close(heard.recorded[0], recording[9 * 960 : 15 * 960])
    assert torch.equal(heard.units[0], quantizer.encode(resample(recording, 24_000, 16_000))[9:15])


def test_mimi_s_head_learns_from_recordings_at_mimi_s_rate(tmp_path):
    torch.manual_seed(0)
    codec = MimiCodec(MimiConfig(**{**TINY, "sampling_rate": 24_000, "upsampling_ratios": [20, 12, 4]}))
    vocoder = MimiVocoder(codec, channels=8)
    output = fitted(vocoder, codec, tmp_path, [10_000, 10_000])
    assert vocoder.sample_rate == 24_000 and output.recorded.shape == output.spoken.shape == (1, 12 * 1_920)
    assert torch.fft.rfft(output.recorded[0]).abs().argmax() == round(10_000 * 12 * 0.08)
    assert vocoder.output.weight.any() and not any(p.requires_grad for p in codec.parameters())


def test_changes_made_for_another_rate_are_refused(tmp_path):
    vocoder = NeuralVocoder(16, 8, 1, hop_length=240, sample_rate=24_000)
    with pytest.raises(InputError, match="is made for 16000 Hz: leave it out at 24000"):
        fitted(vocoder, MelQuantizer(16), tmp_path, [100, 100], Augmentation())


def test_few_steps_bring_the_speech_nearer_to_the_recording():
    trained = task(auxiliary_losses={"spectral": MultiResolutionSpectralLoss()})
    batch = batch_of([harmonic(f, 0.6) for f in (110.0, 170.0, 250.0)])
    optimizer = trained._new_optimizer()
    losses = []
    for _ in range(40):
        output = trained.output(batch)
        loss = output.mel_loss + trained.auxiliary_losses["spectral"](output, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_quantizer_is_frozen_and_the_discriminators_learn_beside_the_vocoder():
    trained = task(auxiliary_losses={"adversarial": AdversarialLoss([2], [256], 4)})
    assert not list(trained.quantizer.parameters())
    names = {id(p) for group in trained._new_optimizer().param_groups for p in group["params"]}
    for module in (trained.model, trained.auxiliary_losses["adversarial"]):
        assert all(id(p) in names for p in module.parameters())


def test_the_discriminator_learns_from_both_and_the_vocoder_only_from_what_was_found():
    loss, output = AdversarialLoss([3], [], 4, feature_weight=0.0), pair()
    loss(output, None).backward()
    (discriminator,) = loss.discriminators
    own = [p.grad.clone() for p in discriminator.parameters()]
    # The same by hand: hinge of both for the discriminator, minus its score for the vocoder.
    discriminator.zero_grad()
    spoken = output.spoken.detach().requires_grad_()
    hinge = (1 - discriminator(output.recorded)[0]).relu().mean() + (
        1 + discriminator(spoken.detach())[0]
    ).relu().mean()
    hinge.backward()
    for mine, by_hand in zip(own, discriminator.parameters(), strict=True):
        torch.testing.assert_close(mine, by_hand.grad)
    discriminator.requires_grad_(False)
    (-discriminator(spoken)[0].mean()).backward()
    torch.testing.assert_close(output.spoken.grad, spoken.grad)


def test_the_distances_are_their_formulas():
    output = pair(1)
    spoken, recorded = output.spoken.detach(), output.recorded
    window = torch.hann_window(256)

    def _magnitude(waveform):
        padded = torch.nn.functional.pad(waveform, (128, 128))
        return torch.stft(padded, 256, 64, window=window, center=False, return_complex=True).abs()

    torch.testing.assert_close(magnitude(spoken, 256), _magnitude(spoken), atol=1e-4, rtol=1e-4)
    own, true = _magnitude(spoken), _magnitude(recorded)
    expected = (own - true).norm() / true.norm()
    expected = expected + (own.clamp(min=1e-2).log() - true.clamp(min=1e-2).log()).abs().mean()
    torch.testing.assert_close(MultiResolutionSpectralLoss([256])(output, None), expected, atol=1e-4, rtol=1e-4)
    # Twice as loud is as far away in every band.
    distance = MelDistance(n_fft=512)
    torch.testing.assert_close(distance(2 * recorded, recorded), torch.tensor(2.0).log(), atol=1e-3, rtol=0)
    assert distance(recorded, recorded) == 0


@pytest.mark.parametrize(
    ("vocoder", "line"),
    [
        (NeuralVocoder(16, 8, 1, frames_per_unit=2), "320 samples a unit at 16000 Hz, and the quantizer has 640"),
        (NeuralVocoder(8, 8, 1), "num_units 8, and the quantizer has 16"),
        (NeuralVocoder(16, 8, 1, sample_rate=24_000), "640 samples a unit at 24000 Hz, and the quantizer has 640"),
        (torch.nn.Identity(), "has no attribute 'sample_rate'"),
    ],
)
def test_a_vocoder_that_does_not_fit_is_refused(vocoder, line):
    with pytest.raises(InputError, match=line):
        VocoderTask(vocoder, MelQuantizer(16))


class Tinny(torch.nn.Module):
    """A tiny encoder without padding, as HuBERT's: a frame of 400 samples every 320."""

    max_seconds, num_layers, hidden_size = 30.0, 1, 8

    def __init__(self):
        super().__init__()
        self.frames = torch.nn.Conv1d(1, 8, 400, 320)

    def forward(self, waveform, lengths):
        # Normalised over the recording, so that a piece of it alone is heard otherwise.
        waveform = waveform - waveform.mean(1, keepdim=True)
        frames = self.frames(waveform[:, None] / waveform.std(1, keepdim=True)[..., None]).mT
        mask = torch.ones(frames.shape[:2], dtype=torch.bool)
        return EncodedSpeech(frames, (frames,), mask)


def test_a_vocoder_of_k_means_units_learns_from_the_units_that_prepare_units_writes(tmp_path):
    quantizer = KMeansQuantizer(Tinny(), 1, 16, 8)
    recording = torch.cat([0.1 * harmonic(110.0, 0.5), harmonic(250.0, 0.5)])
    quantizer.centres.copy_(quantizer.features(recording[None], torch.tensor([16_000]))[0][::3][:16])
    trained = VocoderTask(UnitHifiGan(16, channels=32), quantizer, stretch=10).eval()
    output = trained.output(batch_of([recording, recording[:1_000]]))
    whole = quantizer.encode(recording)
    # An unpadded encoder gives one frame less than there are stretches of 320 samples.
    assert len(whole) == 49 and torch.equal(output.units[0], whole[19:29])
    torch.testing.assert_close(output.recorded[0], recording[19 * 320 : 29 * 320])
    assert output.spoken.shape == output.recorded.shape == (2, 10 * 320)


def test_a_unit_of_another_length_is_told_before_the_first_step():
    trained = VocoderTask(UnitHifiGan(16, channels=32), Doubled(16)).eval()
    with pytest.raises(InputError, match="320 samples a unit make 50 units of a recording, and the quantizer gives 25"):
        trained.output(batch_of([harmonic(110.0)]))


class Doubled(torch.nn.Module):
    """Does not say how long its units are."""

    def __init__(self, num_units):
        super().__init__()
        self.num_units = num_units

    def encode(self, waveform):
        return torch.zeros(len(waveform) // 640, dtype=torch.long)


def test_in_bfloat16_the_units_and_the_distance_are_those_of_full_precision():
    trained = task().eval()
    recordings = [harmonic(f) + 0.01 * torch.randn(16_000) for f in (110.0, 130.0, 170.0, 210.0)]
    expected = trained.output(batch_of(recordings))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trained.output(batch_of(recordings))
        distance = trained.mel_distance(expected.spoken, expected.recorded)
    assert torch.equal(rounded.units, expected.units) and torch.equal(distance, expected.mel_loss)
