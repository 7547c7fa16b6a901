import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SeamlessM4TConfig, SeamlessM4TModel, SeamlessM4Tv2Config, SeamlessM4Tv2Model, WhisperModel

from empathy_lightning.checkpoints import load_vocoder, save
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.pretrained import PretrainedError
from empathy_lightning.modules.vocoders.seamless import SeamlessVocoder
from tests.conftest import whisper_config
from tests.modules.vocoders.streaming import check_streams, loud, reach

TINY = {
    "vocab_size": 16, "t2u_vocab_size": 16, "hidden_size": 8, "encoder_layers": 1, "decoder_layers": 1,
    "speech_encoder_layers": 1, "t2u_encoder_layers": 1, "t2u_decoder_layers": 1, "encoder_ffn_dim": 8,
    "decoder_ffn_dim": 8, "t2u_encoder_ffn_dim": 8, "t2u_decoder_ffn_dim": 8, "encoder_attention_heads": 1,
    "decoder_attention_heads": 1, "speech_encoder_attention_heads": 1, "t2u_encoder_attention_heads": 1,
    "t2u_decoder_attention_heads": 1, "speech_encoder_intermediate_size": 8, "feature_projection_input_dim": 8,
    "upsample_rates": [5, 4], "upsample_kernel_sizes": [11, 8], "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "unit_hifi_gan_vocab_size": 20, "unit_embed_dim": 8, "lang_embed_dim": 4, "spkr_embed_dim": 4,
    "vocoder_num_langs": 3, "vocoder_num_spkrs": 2,
}  # fmt: skip


@pytest.fixture(scope="module", params=["1", "2"])
def release(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seamless")
    torch.manual_seed(0)
    model = SeamlessM4TModel(SeamlessM4TConfig(**TINY)) if request.param == "1" else None
    model = model or SeamlessM4Tv2Model(SeamlessM4Tv2Config(**TINY))
    loud(model.vocoder.hifi_gan)
    model.save_pretrained(folder)
    return folder, model.vocoder.eval()


@torch.no_grad()
def test_it_speaks_as_transformers_does(release):
    folder, theirs = release
    units = torch.randint(1, 20, (1, 30))
    torch.nn.init.constant_(theirs.dur_predictor.proj.bias, 1.0)
    for language, speaker in ((0, 0), (2, 1)):
        vocoder = SeamlessVocoder.from_pretrained(str(folder), language=language, speaker=speaker, durations=True)
        vocoder.vocoder.load_state_dict(theirs.state_dict())
        expected, _ = theirs(units, torch.tensor([[speaker]]), torch.tensor([[language]]))
        assert vocoder(units).shape[1] > 30 * 20, "nothing lasts longer than one frame"
        assert torch.allclose(vocoder(units), expected.reshape(1, -1), atol=1e-5)


def test_without_durations_it_streams(release):
    vocoder = SeamlessVocoder.from_pretrained(str(release[0]), language=1)
    check_streams(vocoder)
    assert vocoder.samples_per_unit == 20 and reach(vocoder, 41) == vocoder.context


def test_with_durations_it_speaks_whole_and_rows_end_in_silence(release):
    vocoder = SeamlessVocoder.from_pretrained(str(release[0]), durations=True)
    torch.nn.init.normal_(vocoder.vocoder.dur_predictor.proj.weight, std=1.0)
    torch.nn.init.constant_(vocoder.vocoder.dur_predictor.proj.bias, 1.0)
    check_streams(vocoder)
    units = torch.randint(20, (3, 12))
    rows, alone = vocoder(units), [vocoder(row[None])[0] for row in units]
    assert len({len(row) for row in alone}) > 1
    for row, own in zip(rows, alone, strict=True):
        assert torch.allclose(row[: len(own)], own, atol=1e-5) and not row[len(own) :].any()


def test_a_bot_names_it_and_loads_it_again(release, tmp_path):
    vocoder = SeamlessVocoder.from_pretrained(str(release[0]), speaker=1, language=2)
    save(tmp_path, vocoder)
    assert not load_file(tmp_path / "model.safetensors")
    units = torch.randint(20, (1, 9))
    assert torch.equal(load_vocoder(str(tmp_path))(units), vocoder(units))
    assert not any(p.requires_grad for p in vocoder.train().parameters()) and not vocoder.vocoder.training


def test_what_cannot_be_used_is_one_line(release, tmp_path):
    folder, _ = release
    with pytest.raises(InputError, match=r"^speaker 2 is none of the vocoder's: give one from 0 to 1$"):
        SeamlessVocoder.from_pretrained(str(folder), speaker=2)
    with pytest.raises(VocoderError, match=r"^unit 20 is unknown to SeamlessVocoder"):
        SeamlessVocoder.from_pretrained(str(folder))(torch.tensor([[20]]))
    WhisperModel(whisper_config()).save_pretrained(tmp_path / "whisper")
    with pytest.raises(PretrainedError, match=r"is a whisper, not one of seamless_m4t, seamless_m4t_v2$"):
        SeamlessVocoder.from_pretrained(str(tmp_path / "whisper"))
    weights = {key: value for key, value in load_file(folder / "model.safetensors").items() if "conv_post" not in key}
    (tmp_path / "cut").mkdir()
    save_file(weights, tmp_path / "cut" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "cut" / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(PretrainedError, match=r"the weights lack vocoder\.hifi_gan\.conv_post"):
        SeamlessVocoder.from_pretrained(str(tmp_path / "cut"))
