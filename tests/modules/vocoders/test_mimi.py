import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import MimiConfig, MimiModel

from empathy_lightning.checkpoints import load_quantizer, load_vocoder, save
from empathy_lightning.errors import InputError
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.mimi import MimiCodec
from empathy_lightning.modules.vocoder_stream import VocoderStream
from empathy_lightning.modules.vocoders.mimi_vocoder import MimiVocoder
from tests.modules.vocoders.streaming import check_streams

TINY = {
    "hidden_size": 32, "num_filters": 4, "upsampling_ratios": [4, 3, 2], "codebook_size": 16, "codebook_dim": 8,
    "vector_quantization_hidden_dimension": 8, "num_quantizers": 4, "upsample_groups": 32, "num_hidden_layers": 2,
    "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": 7,
    "sampling_rate": 1200, "layer_scale_initial_scale": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("mimi")
    model = MimiModel(MimiConfig(**TINY))
    for name, buffer in model.named_buffers():
        if name.endswith("embed_sum"):
            nn.init.normal_(buffer)
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.init.normal_(module.weight, std=1.5 / module.weight[0].numel() ** 0.5)
    final = [module for module in model.decoder.modules() if isinstance(module, nn.Conv1d)][-1]
    nn.init.normal_(final.weight, std=0.02)
    model.save_pretrained(folder)
    return folder, model.eval()


@pytest.fixture
def vocoder(release):
    made = MimiVocoder(MimiCodec.from_pretrained(str(release[0])), channels=8)
    nn.init.normal_(made.output.weight)
    return made.eval()


@torch.no_grad()
def test_the_codec_is_transformers_own(release):
    folder, theirs = release
    codec, waveform = MimiCodec.from_pretrained(str(folder)), torch.randn(2, 96 * 6)
    lengths = torch.tensor([96 * 6, 96 * 6])
    codes = theirs.encode(waveform[:, None]).audio_codes
    assert codec.samples_per_unit == 48 and torch.equal(codec.codes(waveform, lengths), codes)
    assert len(set(codes[:, 0].flatten().tolist())) > 2 and torch.equal(codec.encode(waveform[1]), codes[1, 0])
    states, _ = codec.attended(codec.upsampled(codec.latents(codes)))
    assert torch.allclose(codec.waveform(states), theirs.decode(codes).audio_values[:, 0], atol=1e-5)


def test_units_do_not_depend_on_the_batch(release):
    codec = MimiCodec.from_pretrained(str(release[0]))
    lengths = torch.tensor([530, 1, 48, 200])
    waveform = torch.randn(4, 530)
    together = codec.encode_many(waveform, lengths)
    assert [len(units) for units in together] == [12, 1, 1, 5]
    for row, length, units in zip(waveform, lengths, together, strict=True):
        assert torch.equal(codec.encode(row[:length]), units)
    assert not len(codec.encode(torch.zeros(0)))


def test_blocks_behind_one_another_are_the_whole_and_a_unit_is_heard_at_once(vocoder):
    check_streams(vocoder, times=4)
    stream, units = VocoderStream(vocoder), torch.randint(16, (30,))
    assert [len(stream.push(units[i : i + 1])) for i in range(30)] == [48] * 30
    assert stream._stream.units.shape == (29,) and stream._stream.cache.get_seq_length() == 60
    stream.close()
    assert stream._stream.cache is None


@torch.no_grad()
def test_nothing_hears_ahead_and_batches_are_as_alone(vocoder):
    units = torch.randint(16, (3, 20))
    changed = units.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % 16
    whole = vocoder(units)
    assert torch.allclose(whole[:, : 12 * 48], vocoder(changed)[:, : 12 * 48], atol=1e-5)
    assert (whole - vocoder(changed))[:, 12 * 48 :].abs().max() > 1e-2
    assert torch.allclose(torch.cat([vocoder(row[None]) for row in units]), whole, atol=1e-5)


def test_the_head_learns_what_the_other_codebooks_add(release):
    """From waveforms alone, with the codec as it was."""
    torch.manual_seed(0)
    vocoder = MimiVocoder(MimiCodec.from_pretrained(str(release[0])), channels=16)
    waveform = torch.randn(1, 48 * 20)
    with torch.no_grad():
        codes = vocoder.codec.codes(waveform, torch.tensor([48 * 20]))
        target = vocoder.codec.waveform(
            vocoder.codec.attended(vocoder.codec.upsampled(vocoder.codec.latents(codes)))[0]
        )
    before = {name: value.clone() for name, value in vocoder.codec.state_dict().items()}
    optimizer = torch.optim.Adam((p for p in vocoder.parameters() if p.requires_grad), 1e-2)
    losses = []
    for _ in range(40):
        loss = nn.functional.mse_loss(vocoder(codes[:, 0]), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in vocoder.codec.state_dict().items())


def test_a_folder_keeps_the_head_and_names_the_codec(vocoder, release, tmp_path):
    save(tmp_path / "vocoder", vocoder)
    assert not any(name.startswith("codec") for name in load_file(tmp_path / "vocoder/model.safetensors"))
    units = torch.randint(16, (1, 9))
    assert torch.equal(load_vocoder(str(tmp_path / "vocoder"))(units), vocoder(units))
    save(tmp_path / "quantizer", vocoder.codec)
    waveform = torch.randn(400)
    assert torch.equal(load_quantizer(str(tmp_path / "quantizer")).encode(waveform), vocoder.codec.encode(waveform))
    with pytest.raises(VocoderError, match=r"^unit 16 is unknown to MimiVocoder, which has 0 to 15"):
        vocoder(torch.tensor([[16]]))


def test_a_codec_that_hears_ahead_is_refused():
    with pytest.raises(InputError, match=r"^this Mimi hears what comes later: give one with"):
        MimiCodec(MimiConfig(**TINY, use_causal_conv=False))
