import json

import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

from empathy_lightning.modules.speech_encoder import LogMel, SpeechEncoder, freeze
from tests.conftest import golden, golden_seeds, whisper_config


@pytest.fixture
def encoder(backbones):
    return SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))


def test_log_mel_is_the_library_s_on_the_utterance():
    waveform = 0.1 * torch.randn(20_001)
    mel, frames = LogMel()(waveform[None], torch.tensor([20_001]))
    expected = WhisperFeatureExtractor()(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    assert frames.item() == 126
    torch.testing.assert_close(mel[0], expected[0, :, :126], rtol=0, atol=1e-5)


def test_padded_to_30_seconds_it_is_the_library_s_encoder(backbones):
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"), pad_to_30s=True)
    reference = WhisperModel.from_pretrained(backbones / "speech_encoder").eval()
    waveform = 0.1 * torch.randn(1, 12_345)
    features = WhisperFeatureExtractor()(waveform[0].numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = reference.encoder(features).last_hidden_state
    heard = encoder(waveform, torch.tensor([12_345]))
    torch.testing.assert_close(heard.frames, expected, rtol=1e-4, atol=1e-5)
    assert heard.mask.all() and heard.mask.shape == (1, 1500)


def test_cut_after_the_padding_only_the_speech_is_left(backbones):
    folder = str(backbones / "speech_encoder")
    whole = SpeechEncoder.from_pretrained(folder, pad_to_30s=True)
    cut = SpeechEncoder.from_pretrained(folder, pad_to_30s=True, cut_padding=True)
    waveform, lengths = 0.1 * torch.randn(2, 16_000), torch.tensor([16_000, 9_001])
    waveform[1, 9_001:] = 0
    heard, everything = cut(waveform, lengths), whole(waveform, lengths)
    assert heard.mask.sum(1).tolist() == cut.frame_lengths(lengths).tolist() == [50, 29]
    assert torch.equal(heard.frames, everything.frames[:, :50] * heard.mask[..., None])
    assert torch.equal(heard.layers[1], everything.layers[1][:, :50])


def test_a_result_does_not_depend_on_the_batch(encoder):
    lengths = torch.tensor([16_000, 9_001, 12_345])
    waveform = torch.randn(3, 16_000)
    together = encoder(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(waveform[row : row + 1, :length], lengths[row : row + 1])
        valid = together.mask[row]
        assert valid.sum() == alone.mask.sum() == encoder.frame_lengths(lengths[row : row + 1])
        torch.testing.assert_close(together.frames[row, valid], alone.frames[0], rtol=1e-4, atol=1e-5)
        assert (together.frames[row, ~valid] == 0).all()
        for layer, alone_layer in zip(together.layers, alone.layers, strict=True):
            torch.testing.assert_close(layer[row, valid], alone_layer[0], rtol=1e-4, atol=1e-5)


def test_speech_longer_than_the_positions_is_refused(encoder):
    with pytest.raises(ValueError, match="longer than"):
        encoder(torch.randn(1, 16_000 * 31), torch.tensor([16_000 * 31]))


def test_frozen_stays_in_eval_mode_without_gradients(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    parent = torch.nn.Sequential(encoder)
    parent.train()
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    linear = freeze(torch.nn.Linear(2, 2))
    assert not linear.weight.requires_grad


def test_a_frozen_encoder_keeps_no_activations(encoder):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        heard = encoder(torch.randn(2, 9_000), torch.tensor([9_000, 4_000]))
    assert not kept
    assert not any(tensor.requires_grad for tensor in (heard.frames, *heard.layers))


@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_whisper_blocks_and_normed_output(folder):
    tensors, state = golden(folder, "c_whisper")
    facts = json.loads((folder / "c_whisper.json").read_text())
    sizes = facts["config"]
    values = whisper_config().to_dict() | {
        "num_mel_bins": sizes["n_mels"], "d_model": sizes["n_audio_state"], "encoder_layers": sizes["n_audio_layer"],
        "encoder_attention_heads": sizes["n_audio_head"], "encoder_ffn_dim": 4 * sizes["n_audio_state"],
        "max_source_positions": sizes["n_audio_ctx"],
    }  # fmt: skip
    encoder = SpeechEncoder(WhisperConfig(**values))
    renamed = {facts["key_map_openai_to_hf_WhisperEncoder"][key]: value for key, value in state.items()}
    encoder.encoder.load_state_dict(renamed)
    mel = tensors["input.mel"]
    encoder.log_mel.forward = lambda waveform, lengths: (mel, lengths)
    heard = encoder(torch.zeros(len(mel), 1), torch.full((len(mel),), mel.shape[2]))
    for index, layer in enumerate(heard.layers):
        torch.testing.assert_close(layer, tensors[f"output.block{index}"], rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(heard.frames, tensors["output.ln_post"], rtol=2e-5, atol=2e-5)


def test_with_trim_the_silence_at_the_ends_is_not_heard(tmp_path):
    encoder = SpeechEncoder(whisper_config(), trim=True)
    plain = SpeechEncoder(whisper_config())
    plain.load_state_dict(encoder.state_dict())
    speech = torch.randn(1, 8_000)
    long = torch.nn.functional.pad(speech, (16_000, 32_000))
    heard = encoder(long, torch.tensor([long.shape[1]]))
    # 50 ms of the silence are left at either end.
    expected = plain(torch.nn.functional.pad(speech, (800, 800)), torch.tensor([9_600]))
    assert heard.frames.shape == expected.frames.shape
    torch.testing.assert_close(heard.frames, expected.frames, rtol=1e-5, atol=1e-5)
