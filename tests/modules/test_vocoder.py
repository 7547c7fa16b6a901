"""The neural vocoder: what it promises of lengths, blocks and edges, whatever its weights."""

import pytest
import torch

from empathy_lightning.modules.vocoder import NeuralVocoder


def tiny(**given):
    torch.manual_seed(0)
    sizes = {"num_units": 12, "hidden_size": 16, "num_layers": 2} | given
    vocoder = NeuralVocoder(**sizes)
    # Blocks that count for something, so that far units are heard if they can be.
    for block in vocoder.blocks:
        torch.nn.init.normal_(block.scale, std=1.0)
    return vocoder.eval()


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("frames", [2, 3, 4])
@torch.no_grad()
def test_what_is_further_away_than_the_context_changes_nothing_and_the_context_is_no_larger_than_it_must_be(
    layers, frames
):
    vocoder = tiny(num_layers=layers, frames_per_unit=frames)
    reach, each = vocoder.context, vocoder.samples_per_unit
    units = torch.arange(60)[None] % 12
    changed = units.clone()
    changed[0, 30] = (changed[0, 30] + 5) % 12
    different = (vocoder(units) - vocoder(changed)).abs().reshape(60, each).amax(1) > 0
    heard = different.nonzero()[:, 0] - 30
    assert heard.abs().max() <= reach
    # Frames in the outermost units are heard through many small weights; what is a unit nearer is heard for certain.
    assert heard.abs().max() >= reach - 1


@torch.no_grad()
def test_blocks_with_their_context_are_the_whole_and_so_are_the_ends():
    vocoder = tiny()
    reach, each = vocoder.context, vocoder.samples_per_unit
    units = torch.randint(12, (2, 50), generator=torch.Generator().manual_seed(1))
    whole, blocks = vocoder(units), []
    for start in range(0, 50, 7):
        first, last = max(0, start - reach), min(50, start + 7 + reach)
        block = vocoder(units[:, first:last])
        blocks.append(block[:, (start - first) * each :][:, : 7 * each])
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(torch.cat(blocks, 1)[:, : 50 * each], whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_rows_do_not_depend_on_each_other_and_no_units_are_silence():
    vocoder = tiny()
    units = torch.randint(12, (3, 9), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(vocoder(units)[1:2], vocoder(units[1:2]), atol=1e-6, rtol=0)
    assert vocoder(units[:, :1]).shape == (3, vocoder.samples_per_unit)
    assert vocoder(units[:, :0]).shape == (3, 0)


@torch.no_grad()
def test_the_last_layer_is_the_inverse_of_the_analysis_in_its_windows():
    vocoder = tiny()
    tone = 0.3 * torch.sin(2 * torch.pi * 437 * torch.arange(16_000) / 16_000)
    beside = (vocoder.n_fft - vocoder.hop_length) // 2
    spectrum = torch.stft(
        torch.nn.functional.pad(tone, (beside, beside)), vocoder.n_fft, vocoder.hop_length,
        window=vocoder.window, center=False, return_complex=True,
    )  # fmt: skip
    pieces = torch.fft.irfft(spectrum.T, vocoder.n_fft)[None]
    rebuilt = vocoder._overlapped(pieces)[0]
    # A Hann window before and after, four deep, adds up to three halves of what one alone does to two.
    torch.testing.assert_close(rebuilt[640:-640], 0.75 * tone[640:-640], atol=1e-4, rtol=0)


def test_loud_samples_are_cut_off_only_where_nothing_is_trained():
    vocoder = tiny()
    with torch.no_grad():
        vocoder.head.bias[: vocoder.n_fft // 2 + 1] = 4.0
        units = torch.arange(12)[None]
        assert vocoder.unclipped(units).abs().max() > 1 and vocoder(units).abs().max() == 1
