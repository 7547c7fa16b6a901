import math

import pytest
import torch

from empathy_lightning.batch import collate
from empathy_lightning.checkpoints import Checkpoint, load, save
from empathy_lightning.losses import CategoricalLoss
from empathy_lightning.models import EmpatheticLM
from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.prosody import ProsodyClassifier, prosodic_statistics, trim_silence
from empathy_lightning.tasks import EmotionNuanceTask
from empathy_lightning.utterance import Utterance

NAMES = (
    "pitch_10", "pitch_50", "pitch_90", "pitch_deviation", "pitch_slope", "step", "step_deviation",
    "voiced_loudness_10", "voiced_loudness_50", "voiced_loudness_90", "tilt_10", "tilt_50", "tilt_90", "tilt_deviation",
    "periodicity", "periodicity_deviation", "voiced", "loudness_10", "loudness_50", "loudness_90", "loudness_deviation",
    "loudness_step", "seconds",
)  # fmt: skip


def tone(start, end, seconds=2.0, harmonics=5):
    """A voice-like sound whose pitch goes from one frequency to another in equal steps of octaves."""
    time = torch.arange(int(seconds * 16_000), dtype=torch.float64) / 16_000
    octaves = math.log2(start) + (math.log2(end) - math.log2(start)) * time / seconds
    phase = 2 * torch.pi * (2**octaves).cumsum(0) / 16_000
    return (sum(torch.sin(k * phase) / k for k in range(1, harmonics + 1)) * 0.2).float()


def measured(*waveforms):
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    rows = prosodic_statistics(torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True), lengths)
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in rows]


@pytest.mark.parametrize("hertz", [80, 120, 210, 333])
def test_pitch_of_a_steady_tone(hertz):
    (found,) = measured(tone(hertz, hertz))
    assert found["pitch_50"] == pytest.approx(math.log2(hertz), abs=0.03)
    assert found["pitch_90"] - found["pitch_10"] < 0.05 and abs(found["pitch_slope"]) < 0.01
    assert found["periodicity"] > 0.9 and found["voiced"] > 0.95
    assert found["seconds"] == pytest.approx(math.log(2), abs=0.02)


def test_pitch_that_rises_and_falls():
    rising, falling = measured(tone(120, 240), tone(240, 120))
    octaves = torch.linspace(math.log2(120), math.log2(240), 1000)
    for found in (rising, falling):
        for share in (0.1, 0.5, 0.9):
            expected = octaves.quantile(share).item()
            assert found[f"pitch_{round(share * 100)}"] == pytest.approx(expected, abs=0.06)
        assert found["pitch_deviation"] == pytest.approx(octaves.std().item(), abs=0.03)
        # An octave in 100 steps of 20 ms.
        assert found["step"] == pytest.approx(0.01, abs=0.005)
    # The mean of x (x / 2) for x evenly in -1..1.
    assert rising["pitch_slope"] == pytest.approx(1 / 6, abs=0.02)
    assert falling["pitch_slope"] == pytest.approx(-1 / 6, abs=0.02)


def test_loudness_is_in_bels_and_tilt_knows_dark_from_bright():
    soft, loud = measured(0.1 * tone(150, 150, harmonics=30), tone(150, 150, harmonics=30))
    for name in ("loudness_50", "voiced_loudness_50"):
        assert loud[name] - soft[name] == pytest.approx(2, abs=0.01)
    assert loud["tilt_50"] == pytest.approx(soft["tilt_50"], abs=0.01)
    dark, bright = measured(tone(150, 150, harmonics=3), tone(150, 150, harmonics=30))
    assert dark["tilt_50"] > bright["tilt_50"] + 0.5


def test_noise_is_hardly_voiced_and_silence_gives_numbers():
    noise, silence, click = measured(0.1 * torch.randn(32_000), torch.zeros(16_000), torch.ones(400))
    assert noise["voiced"] < 0.2 and noise["periodicity"] < 0.5
    assert all(math.isfinite(value) for found in (noise, silence, click) for value in found.values())


def test_statistics_depend_on_neither_batch_nor_silence_around():
    long, short = tone(150, 200, 2.0, 30), tone(220, 180, 0.77, 30)
    padded = torch.cat([torch.zeros(3_200), short, torch.zeros(7_000)])
    alone, together = measured(short), measured(long, short, padded)
    for name, value in alone[0].items():
        assert together[1][name] == pytest.approx(value, abs=1e-4), name
        # The end of the speech is cut to whole stretches of 20 ms.
        assert together[2][name] == pytest.approx(value, abs=0.1), name


def test_silence_is_cut_off_the_ends_only():
    speech = torch.randn(8_000)
    speech[3_000:5_000] = 0
    long = torch.nn.functional.pad(speech, (16_000, 32_000))
    waveform, lengths = torch.zeros(5, len(long)), torch.tensor([len(long), 9_000, 500, 8_100, 7_000])
    waveform[0], waveform[2, :500], waveform[3, :8_100] = long, speech[:500], torch.cat([speech, speech[:100]])
    waveform[4, :7_000] = torch.cat([torch.zeros(2_000), speech[:3_000], torch.zeros(2_000)])
    trimmed, sizes = trim_silence(waveform, lengths)
    # Whole stretches of 20 ms: the last 100 samples of the fourth and 80 before the fifth's speech are cut and kept.
    assert sizes.tolist() == [8_000, 8_960, 500, 8_000, 3_200]
    assert torch.equal(trimmed[0, :8_000], speech) and torch.equal(trimmed[2, :500], speech[:500])
    assert torch.equal(trimmed[3, :8_000], speech) and torch.equal(trimmed[4, 80:3_080], speech[:3_000])
    assert not trimmed[1].any() and not any(row[size:].any() for row, size in zip(trimmed, sizes, strict=True))
    for row, size in enumerate(lengths.tolist()):
        alone, own = trim_silence(waveform[row : row + 1, :size], lengths[row : row + 1])
        assert own == sizes[row] and torch.equal(alone[0, :own], trimmed[row, :own])


def test_prosody_alone_learns_high_from_low():
    torch.manual_seed(0)
    rows = [tone(hertz, hertz * 1.1, 0.5) for hertz in torch.linspace(90, 140, 8).tolist()]
    rows += [tone(hertz, hertz * 1.1, 0.5) for hertz in torch.linspace(200, 300, 8).tolist()]
    statistics = prosodic_statistics(torch.stack(rows), torch.full((16,), 8_000))
    labels = torch.tensor([0] * 8 + [1] * 8)
    classifier = ProsodyClassifier(2).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(classifier(statistics), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    assert torch.equal(classifier(statistics).argmax(1), labels)
    assert torch.equal(classifier(statistics[3:4])[0].argmax(), labels[3])
    assert classifier.train()(statistics[:1]).isfinite().all()


def nuance():
    torch.manual_seed(0)
    return EmotionNuance(8, 8, 3, hidden_size=16, gate_size=4, pooling="mean", prosody=True)


def test_both_are_heard_and_each_learns_for_itself():
    model, frames, mask = nuance(), torch.randn(400, 5, 8), torch.ones(400, 5, dtype=torch.bool)
    statistics = torch.randn(400, 23)
    model.eval()
    plain = model.categorical_head(model.extractor([frames], mask))
    alone = model.prosody_classifier(statistics)
    expected = torch.softmax(plain, -1) * torch.softmax(alone, -1)
    torch.testing.assert_close(
        model([frames], mask, statistics).logits.softmax(-1), expected / expected.sum(-1, keepdim=True)
    )
    model.train()
    model.zero_grad()
    model([frames], mask, statistics).logits.sum().backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "prosody" in name)
    # In training an utterance's scores come from one of the two: about 0.3 of them from prosody.
    model.extractor.requires_grad_(False)
    share = (model([frames], mask, statistics).logits == plain).all(1).float().mean().item()
    assert 0.6 < share < 0.8


def test_a_saved_recogniser_hears_the_same_prosody(tmp_path):
    encoder = ConvolutionalEncoder(hidden_size=8, channels=(4, 4, 4))
    model = EmpatheticLM(encoder, emotion_nuance=nuance())
    rows = [tone(150, 200, 0.9), tone(220, 180, 0.6), tone(100, 110, 1.2)]
    lengths = torch.tensor([len(row) for row in rows])
    batch = collate([(row, Utterance(str(n), "c", "a")) for n, row in enumerate(rows)], ["sad", "happy", "angry"])
    model.train()
    model(batch)  # Moves the running statistics of the norms away from where they began.
    model.eval()
    save(tmp_path / "bot", Checkpoint(model, ["sad", "happy", "angry"]))
    again = load(tmp_path / "bot").model
    assert again.emotion_nuance.prosody and (lengths == batch.lengths).all()
    with torch.no_grad():
        heard, other = model.hear(batch)[1].logits, again.hear(batch)[1].logits
        model.emotion_nuance.prosody = False
        without = model.hear(batch)[1].logits
    assert torch.equal(heard, other) and not torch.allclose(heard.softmax(-1), without.softmax(-1), atol=1e-3)


def test_a_trainer_s_checkpoint_keeps_the_statistics_of_the_norms():
    model = EmpatheticLM(ConvolutionalEncoder(hidden_size=8, channels=(4, 4, 4)), emotion_nuance=nuance())
    task = EmotionNuanceTask(model, {"categorical": CategoricalLoss()})
    checkpoint = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    assert set(checkpoint["state_dict"]) == set(task.state_dict())
    model.speech_encoder.requires_grad_(False)
    task.on_save_checkpoint(checkpoint)
    assert "model.emotion_nuance.prosody_classifier.norm.running_var" in checkpoint["state_dict"]
    assert not any("speech_encoder" in name for name in checkpoint["state_dict"])


def test_prosody_without_statistics_is_refused():
    with pytest.raises(ValueError, match="needs prosodic_statistics"):
        nuance()([torch.randn(1, 5, 8)], torch.ones(1, 5, dtype=torch.bool))
