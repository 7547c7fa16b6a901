import json
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

from empathy_lightning.modules.emotion_encoder import EmotionEncoder, normalise
from tests.conftest import golden, golden_seeds

GAIN, DIRECTION = (f"wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original{i}" for i in (0, 1))
OLD = {
    GAIN: "wav2vec2.encoder.pos_conv_embed.conv.weight_g",
    DIRECTION: "wav2vec2.encoder.pos_conv_embed.conv.weight_v",
}


def tiny_config(**values):
    return Wav2Vec2Config(
        **{
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
            "conv_dim": (16,) * 7, "conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True,
            "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "vocab_size": 3,
            "id2label": {0: "arousal", 1: "dominance", 2: "valence"},
        } | values
    )  # fmt: skip


def write_checkpoint(folder, state, config, old_names=True):
    """A checkpoint folder in the released key names."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {OLD.get(key, key) if old_names else key: value.contiguous() for key, value in state.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    values = config.to_dict() | {"architectures": ["Wav2Vec2ForSpeechClassification"], "model_type": "wav2vec2"}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return EmotionEncoder(tiny_config())


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def alone(encoder, waveform):
    return encoder(waveform[None], torch.tensor([len(waveform)]))


def assert_golden(heard, row, tensors, index):
    arousal, dominance, valence = tensors[f"out.logits{index}"]
    pairs = [
        (heard.frames[row, heard.mask[row]], tensors[f"mid.last_hidden{index}"]),
        (heard.embedding[row], tensors[f"out.pooled{index}"]),
        (heard.arousal[row], arousal), (heard.valence[row], valence), (heard.dominance[row], dominance),
    ]  # fmt: skip
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
def test_golden_emotion_model_alone_and_in_a_batch(folder, tmp_path, offline):
    tensors, _ = golden(folder, "emotion_model.io")
    state, _ = golden(folder, "emotion_model.state_dict")
    values = json.loads((folder / "emotion_model.json").read_text())["config"]
    labels = {int(index): name for index, name in values.pop("id2label").items()}
    config = Wav2Vec2Config(**{key: value for key, value in values.items() if key != "num_labels"}, id2label=labels)
    encoder = EmotionEncoder.from_pretrained(str(write_checkpoint(tmp_path, state, config)))
    waveforms = [tensors["in.wave0"], tensors["in.wave1"]]
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True, padding_value=0.7)
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    together, normed = encoder(padded, lengths), normalise(padded, lengths)
    for index, waveform in enumerate(waveforms):
        expected = tensors[f"mid.normalized{index}"]
        torch.testing.assert_close(normed[index, : len(waveform)], expected, rtol=2e-5, atol=2e-5)
        assert_golden(alone(encoder, waveform), 0, tensors, index)
        assert_golden(together, index, tensors, index)


def test_normalised_as_the_library_s_processor_does():
    waveform, lengths = 0.1 * torch.randn(2, 5_000) + 0.3, torch.tensor([5_000, 3_001])
    rows = [row[:length].numpy() for row, length in zip(waveform, lengths, strict=True)]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    expected = extractor(rows, sampling_rate=16_000, padding=True, return_tensors="pt").input_values
    torch.testing.assert_close(normalise(waveform, lengths), expected, rtol=1e-5, atol=1e-5)


def test_a_result_does_not_depend_on_the_batch(encoder):
    lengths = torch.tensor([16_000, 9_001, 720, 400, 399, 7, 0])
    waveform = torch.randn(len(lengths), 16_000)
    together = encoder(waveform, lengths)
    assert together.mask.sum(1).tolist() == encoder.frame_lengths(lengths).tolist() == [49, 27, 2, 1, 1, 1, 1]
    for row, length in enumerate(lengths.tolist()):
        single = alone(encoder, waveform[row, :length])
        valid = together.mask[row]
        torch.testing.assert_close(together.frames[row, valid], single.frames[0], rtol=1e-4, atol=1e-5)
        assert (together.frames[row, ~valid] == 0).all()
        for name in ("embedding", "arousal", "valence", "dominance"):
            ours, theirs = getattr(together, name)[row], getattr(single, name)[0]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_frozen_stays_in_eval_mode_without_gradients(encoder):
    waveform = torch.randn(8_000)
    before = alone(encoder, waveform)
    torch.nn.Sequential(encoder).train()
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    after = alone(encoder, waveform)
    assert torch.equal(before.frames, after.frames) and not after.arousal.requires_grad


@pytest.mark.parametrize("old_names", [True, False])
def test_loads_both_spellings_of_weight_norm(encoder, tmp_path, offline, old_names):
    folder = write_checkpoint(tmp_path, encoder.state_dict(), tiny_config(), old_names)
    assert (OLD[GAIN] in load_file(folder / "model.safetensors")) == old_names
    loaded = EmotionEncoder.from_pretrained(str(folder))
    assert loaded.source == {"name_or_path": str(folder), "revision": None}
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_ratings_follow_the_names_in_the_configuration(encoder):
    other = EmotionEncoder(tiny_config(id2label={0: "valence", 1: "arousal", 2: "dominance"}))
    other.load_state_dict(encoder.state_dict())
    waveform = torch.randn(8_000)
    ours, theirs = alone(encoder, waveform), alone(other, waveform)
    assert ours.arousal == theirs.valence and ours.dominance == theirs.arousal and ours.valence == theirs.dominance


def test_missing_folders_and_heads_are_named(encoder, tmp_path):
    with pytest.raises(OSError, match=r"^no model folder at .*nowhere$"):
        EmotionEncoder.from_pretrained(str(tmp_path / "nowhere"))
    state = {key: value for key, value in encoder.state_dict().items() if key.startswith("wav2vec2.")}
    with pytest.raises(ValueError, match=r"the weights lack classifier\.dense\.bias"):
        EmotionEncoder.from_pretrained(str(write_checkpoint(tmp_path, state, tiny_config())))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"id2label": {0: "happy", 1: "sad"}}, "not happy, sad"),
        ({"feat_extract_norm": "group"}, "free of the batch"),
        ({"add_adapter": True}, "free of the batch"),
    ],
)
def test_other_kinds_of_model_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        EmotionEncoder(tiny_config(**values))
