import shutil

import pytest
import torch
from transformers import WhisperModel

from empathy_lightning.modules.cached_encoder import CachedSpeechEncoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from tests.conftest import whisper_config


def test_it_answers_as_the_encoder_and_encodes_each_utterance_once():
    encoder = SpeechEncoder(whisper_config())
    cached = CachedSpeechEncoder(encoder)
    waveform, lengths = torch.randn(3, 9_000), torch.tensor([9_000, 5_000, 7_000])
    expected = encoder(waveform, lengths)
    calls = []
    encoder.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    cached(waveform[:2], lengths[:2])
    heard = cached(waveform, lengths)
    assert calls == [1, 1, 1]
    assert torch.equal(heard.mask, expected.mask)
    torch.testing.assert_close(heard.frames, expected.frames, rtol=1e-2, atol=2e-3)
    for layer, original in zip(heard.layers, expected.layers, strict=True):
        masked = original * expected.mask[..., None]
        torch.testing.assert_close(layer, masked, rtol=1e-2, atol=2e-3)


def test_what_is_kept_does_not_depend_on_the_batch():
    """A resumed run hears an utterance for the first time in another batch than the run that was not stopped."""
    encoder = SpeechEncoder(whisper_config())
    waveform, lengths = torch.randn(5, 9_000), torch.tensor([9_000, 5_000, 7_000, 8_321, 3_333])
    together = CachedSpeechEncoder(encoder)(waveform, lengths)
    other = CachedSpeechEncoder(encoder)
    other(waveform[3:], lengths[3:])
    later = other(waveform, lengths)
    assert torch.equal(together.frames, later.frames)
    assert all(torch.equal(a, b) for a, b in zip(together.layers, later.layers, strict=True))


def test_an_encoder_that_trains_cannot_be_cached():
    with pytest.raises(ValueError, match="frozen"):
        CachedSpeechEncoder(SpeechEncoder(whisper_config(), frozen=False))


def test_stages_of_one_process_share_what_was_heard(tmp_path, backbones):
    name = str(backbones / "speech_encoder")
    first = CachedSpeechEncoder.shared(name)
    waveform, lengths = torch.randn(1, 9_000), torch.tensor([9_000])
    first(waveform, lengths)
    again, calls = CachedSpeechEncoder.shared(name), []
    again.encoder.register_forward_hook(lambda *_: calls.append(1))
    again(waveform, lengths)
    assert not calls
    # Other weights than it has heard with: nothing of it is kept, and no later stage gets them unasked.
    again.forget()
    again(waveform, lengths)
    assert calls and CachedSpeechEncoder.shared(name) is not again
    CachedSpeechEncoder.shared(name).forget()


def test_an_encoder_that_was_replaced_in_its_folder_is_another(tmp_path, backbones):
    folder = tmp_path / "encoder"
    shutil.copytree(backbones / "speech_encoder", folder)
    waveform, lengths = torch.randn(1, 9_000), torch.tensor([9_000])
    first = CachedSpeechEncoder.shared(str(folder))(waveform, lengths).frames
    torch.manual_seed(1)
    WhisperModel(whisper_config()).save_pretrained(folder)
    second = CachedSpeechEncoder.shared(str(folder))
    expected = SpeechEncoder.from_pretrained(str(folder))(waveform, lengths).frames
    torch.testing.assert_close(second(waveform, lengths).frames, expected, rtol=1e-2, atol=2e-3)
    assert (first - expected).abs().max() > 0.1
    second.forget()
