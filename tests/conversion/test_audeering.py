import json

import pytest
import torch
from safetensors.torch import load_file

from empathy_lightning.conversion import audeering
from empathy_lightning.conversion.re_llm import emotion_config
from empathy_lightning.errors import InputError
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from tests.modules.test_emotion_encoder import DIRECTION, GAIN, OLD, tiny_config, write_checkpoint


@pytest.fixture
def encoder():
    return EmotionEncoder(tiny_config())


@pytest.mark.parametrize("old_names", [True, False], ids=["old spelling", "new spelling"])
@pytest.mark.parametrize("layout", ["safetensors", "pickle"])
def test_both_spellings_and_layouts_become_the_same_encoder(encoder, tmp_path, old_names, layout):
    folder = write_checkpoint(tmp_path / "release", encoder.state_dict(), tiny_config(), old_names)
    if layout == "pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    report = audeering.convert(folder, tmp_path / "out")
    assert not report.missing and not report.left_over and len(report.used) == len(encoder.state_dict())
    assert (OLD[GAIN] in report.used) == (OLD[DIRECTION] in report.used) == old_names
    loaded = EmotionEncoder.from_pretrained(str(tmp_path / "out"))
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    waveform, lengths = torch.randn(1, 4_000), torch.tensor([4_000])
    assert torch.equal(loaded(waveform, lengths).valence, encoder(waveform, lengths).valence)


def test_a_mask_embedding_may_be_missing_and_an_odd_key_is_left_over(encoder, tmp_path):
    state = encoder.state_dict() | {"quantizer.codevectors": torch.zeros(3)}
    del state["wav2vec2.masked_spec_embed"]
    report = audeering.convert(write_checkpoint(tmp_path / "r", state, tiny_config()), tmp_path / "out")
    assert report.missing == ["emotion_encoder.wav2vec2.masked_spec_embed"]
    assert report.left_over == ["quantizer.codevectors"]
    EmotionEncoder.from_pretrained(str(tmp_path / "out"))


def test_a_model_without_its_head_is_refused(encoder, tmp_path):
    state = {key: value for key, value in encoder.state_dict().items() if key.startswith("wav2vec2.")}
    folder = write_checkpoint(tmp_path / "release", state, tiny_config())
    with pytest.raises(InputError, match=r"lacks 4 weights, for instance emotion_encoder\.classifier\.dense"):
        audeering.convert(folder, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "happy", "1": "sad", "2": "angry"}}))
    with pytest.raises(InputError, match="no dimensional emotion model"):
        audeering.convert(folder, tmp_path / "out")


@pytest.mark.parametrize("old_names", [True, False])
def test_sizes_are_read_from_the_weights(old_names):
    values = {"hidden_size": 128, "num_attention_heads": 2, "conv_dim": (16, 8, 16, 16, 8, 16, 16)}
    config = tiny_config(**values)
    state = {f"w2v2.{OLD.get(k, k) if old_names else k}": v for k, v in EmotionEncoder(config).state_dict().items()}
    read = emotion_config(state)
    names = (
        "hidden_size num_hidden_layers num_attention_heads intermediate_size conv_kernel conv_stride conv_dim "
        "conv_bias feat_extract_norm do_stable_layer_norm num_conv_pos_embeddings "
        "num_conv_pos_embedding_groups id2label"
    )
    for name in names.split():
        ours, theirs = getattr(read, name), getattr(config, name)
        assert (list(ours) == list(theirs)) if isinstance(theirs, tuple | list) else ours == theirs, name
    with pytest.raises(InputError, match="of audeering's kind"):
        emotion_config({"w2v2.other": torch.zeros(1)})
