import os
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Qwen2_5OmniConfig, Qwen2_5OmniForConditionalGeneration

from empathy_lightning.checkpoints import load_vocoder, save
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.pretrained import PretrainedError
from empathy_lightning.modules.vocoder_stream import VocoderStream
from empathy_lightning.modules.vocoders.qwen_omni import QwenVocoder

TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "vocab_size": 16, "head_dim": 8}  # fmt: skip
TINY = {
    "thinker_config": {
        "text_config": TEXT,
        "audio_config": {"d_model": 8, "encoder_layers": 1, "encoder_attention_heads": 1, "encoder_ffn_dim": 8,
                         "output_dim": 8, "num_mel_bins": 8},
        "vision_config": {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": 8},
    },
    "talker_config": {**TEXT, "embedding_size": 8},
    "token2wav_config": {
        "dit_config": {
            "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 8, "emb_dim": 8,
            "block_size": 4, "look_ahead_layers": [1], "look_backward_layers": [0], "num_embeds": 20, "mel_dim": 8,
            "enc_emb_dim": 6, "enc_dim": 8, "enc_channels": [8, 8, 8, 8, 24], "enc_attention_channels": 4,
            "enc_se_channels": 4, "max_position_embeddings": 64,
        },
        "bigvgan_config": {
            "mel_dim": 8, "upsample_initial_channel": 16, "upsample_rates": [5, 2], "upsample_kernel_sizes": [11, 4],
            "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("omni")
    model = Qwen2_5OmniForConditionalGeneration(Qwen2_5OmniConfig(**TINY))
    for module in model.token2wav.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.ConvTranspose1d):
            nn.init.normal_(module.weight, std=1 / module.weight[0].numel() ** 0.5)
    model.save_pretrained(folder)
    voices = {name: {"cond": torch.randn(1, 6), "ref_mel": torch.randn(1, 30, 8)} for name in ("Chelsie", "Ethan")}
    torch.save(voices, folder / "spk_dict.pt")
    return folder, model.token2wav.eval(), voices


@torch.no_grad()
@pytest.mark.parametrize("guidance", [0.5, 0.0])
def test_it_speaks_as_transformers_does(release, guidance):
    folder, theirs, voices = release
    vocoder = QwenVocoder.from_pretrained(str(folder), speaker="Ethan", guidance=guidance, steps=4, seed=3)
    units, voice = torch.randint(20, (1, 12)), voices["Ethan"]
    torch.manual_seed(3)
    expected = theirs(units, voice["cond"], voice["ref_mel"], num_steps=4, guidance_scale=guidance)
    heard = vocoder(units)
    assert heard.shape == (1, 12 * vocoder.samples_per_unit) and heard.std() > 1e-2
    assert torch.allclose(heard[0], expected, atol=1e-4)


def test_a_row_sounds_as_alone_and_again_and_voices_differ(release):
    vocoder = QwenVocoder.from_pretrained(str(release[0]), steps=3)
    units = torch.randint(20, (3, 9))
    together = vocoder(units)
    assert torch.allclose(torch.cat([vocoder(row[None]) for row in units]), together, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-2
    assert torch.equal(vocoder(units), together) and vocoder(units[:, :0]).shape == (3, 0)
    for other in ({"speaker": "Ethan"}, {"seed": 1}):
        assert (QwenVocoder.from_pretrained(str(release[0]), steps=3, **other)(units) - together).abs().max() > 1e-3


def test_it_speaks_when_all_units_are_there_and_a_bot_names_it(release, tmp_path):
    vocoder = QwenVocoder.from_pretrained(str(release[0]), speaker="Ethan", steps=3)
    save(tmp_path, vocoder)
    assert not load_file(tmp_path / "model.safetensors")
    units = torch.randint(20, (9,))
    stream = VocoderStream(load_vocoder(str(tmp_path)))
    assert not len(stream.push(units[:5])) and not len(stream.push(units[5:]))
    assert torch.equal(stream.end(), vocoder(units[None])[0])


class _Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_what_cannot_be_used_is_one_line(release, tmp_path, monkeypatch):
    folder, *_ = release
    with pytest.raises(InputError, match=r"has no voice 'Emma': give speaker one of Chelsie, Ethan$"):
        QwenVocoder.from_pretrained(str(folder), speaker="Emma")
    vocoder = QwenVocoder.from_pretrained(str(folder), steps=3)
    with pytest.raises(VocoderError, match=r"^33 units are more than the vocoder's 32: say it in several replies$"):
        vocoder(torch.zeros(1, 33, dtype=torch.long))
    with pytest.raises(VocoderError, match=r"^unit 20 is unknown to QwenVocoder, which has 0 to 19"):
        vocoder(torch.tensor([[20]]))
    monkeypatch.chdir(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "spk_dict.pt").write_bytes(pickle.dumps({"Chelsie": _Harmful()}))
    with pytest.raises(PretrainedError, match=r"spk_dict.pt holds more than tensors and is not opened"):
        QwenVocoder.from_pretrained(str(tmp_path))
    assert not (tmp_path / "harmed").exists()
    (tmp_path / "spk_dict.pt").unlink()
    with pytest.raises(PretrainedError, match=r"spk_dict\.pt"):
        QwenVocoder.from_pretrained(str(tmp_path))
