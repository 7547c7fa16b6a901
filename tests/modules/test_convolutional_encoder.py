import torch

from empathy_lightning.modules.convolutional_encoder import ConvolutionalEncoder


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


def test_silence_around_speech_changes_nothing():
    encoder = ConvolutionalEncoder(hidden_size=16, channels=(4, 8, 8)).eval()
    speech = torch.randn(1, 9_600)
    silent = torch.nn.functional.pad(speech, (6_400, 3_210))
    bare, padded = encoder(speech, torch.tensor([9_600])), encoder(silent, torch.tensor([19_210]))
    assert torch.equal(bare.frames, padded.frames)
    encoder.trim = False
    assert encoder(silent, torch.tensor([19_210])).frames.shape[1] > bare.frames.shape[1]
