import torch

from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder
from empathy_lightning.modules.silence import trim_silence


def test_a_result_does_not_depend_on_the_batch():
    encoder = ConvolutionalEncoder(hidden_size=16, channels=(4, 8, 8)).eval()
    waveform, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 7_001])
    together = encoder(waveform, lengths)
    alone = encoder(waveform[1:, :7_001], lengths[1:])
    torch.testing.assert_close(together.frames[1, together.mask[1]], alone.frames[0], rtol=1e-4, atol=1e-5)
    assert (together.frames[1, ~together.mask[1]] == 0).all()


def test_augmentation_acts_only_while_training():
    encoder = ConvolutionalEncoder(hidden_size=16, channels=(4, 8, 8), dropout=0.0)
    waveform, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 9_000])
    encoder.train()
    first, second = (encoder(waveform, lengths).frames for _ in range(2))
    assert first.shape != second.shape or not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(waveform, lengths).frames, encoder(waveform, lengths).frames)


def test_gradients_reach_every_parameter():
    encoder = ConvolutionalEncoder(hidden_size=16, channels=(4, 8, 8))
    encoder(torch.randn(2, 16_000), torch.tensor([16_000, 9_000])).frames.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


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


def test_silence_around_speech_changes_nothing():
    encoder = ConvolutionalEncoder(hidden_size=16, channels=(4, 8, 8)).eval()
    speech = torch.randn(1, 9_600)
    silent = torch.nn.functional.pad(speech, (6_400, 3_210))
    bare, padded = encoder(speech, torch.tensor([9_600])), encoder(silent, torch.tensor([19_210]))
    assert torch.equal(bare.frames, padded.frames)
    encoder.trim = False
    assert encoder(silent, torch.tensor([19_210])).frames.shape[1] > bare.frames.shape[1]
