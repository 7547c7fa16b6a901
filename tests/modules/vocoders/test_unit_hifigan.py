import pytest
import torch
from torch import nn

from empathy_lightning.checkpoints import CheckpointError, load_vocoder, save
from empathy_lightning.modules.contracts import VocoderError
from empathy_lightning.modules.vocoders.receptive_field import Branches, context_of, samples_per_unit
from empathy_lightning.modules.vocoders.unit_hifigan import UnitHifiGan
from tests.modules.vocoders.streaming import check_streams, loud, reach

SMALL = {"upsample_factors": [5, 4], "upsample_kernel_sizes": [11, 8], "channels": 16, "embedding_size": 8}


@pytest.fixture
def vocoder():
    return loud(UnitHifiGan(20, kernel_sizes=[3, 5], dilations=[[1, 3, 5], [1, 2, 4]], **SMALL)).eval()


def test_blocks_behind_one_another_are_the_whole(vocoder):
    assert vocoder.samples_per_unit == 20
    check_streams(vocoder)


def test_the_context_is_what_a_changed_unit_changes(vocoder):
    assert reach(vocoder, 41) == vocoder.context


def test_the_context_of_the_released_sizes():
    """Frames to either side at each level, by hand: the longest branch reaches 5 * (1 + 3 + 5) + 3 * 5 = 60."""
    with torch.device("meta"):
        released = UnitHifiGan()
    right = 319 + 3
    for factor, padding in ((2, 1), (2, 1), (4, 2), (4, 2), (5, 3)):
        right = (right + 60 + padding) // factor
    assert (released.samples_per_unit, released.context) == (320, right + 3)


@pytest.mark.parametrize("kernel, stride", [(4, 2), (7, 3), (16, 8), (2, 2)])
def test_one_transposed_convolution_by_perturbation(kernel, stride):
    up = nn.ConvTranspose1d(1, 1, kernel, stride, (kernel - stride) // 2)
    nn.init.ones_(up.weight)
    heard = up(torch.eye(9)[4][None, None])[0, 0] - up(torch.zeros(1, 1, 9))[0, 0]
    units = heard.detach().unflatten(0, (9, stride)).abs().amax(1).gt(1e-6).nonzero()[:, 0]
    assert max(4 - int(units.min()), int(units.max()) - 4) == context_of([up])


def test_branches_count_by_the_longest_and_a_kernel_beside_its_stride_is_refused():
    def _convolution(kernel, dilation=1):
        return nn.Conv1d(1, 1, kernel, dilation=dilation)

    branches = Branches(([_convolution(3), _convolution(3, 4)], [_convolution(9)]))
    assert context_of([branches]) == 5 and context_of([_convolution(7), branches]) == 8
    with pytest.raises(ValueError, match="kernel - stride has to be even"):
        samples_per_unit([nn.ConvTranspose1d(1, 1, 4, 3)])
    with pytest.raises(ValueError, match="has to be even"):
        UnitHifiGan(20, upsample_factors=[4], upsample_kernel_sizes=[7], channels=4, embedding_size=4)


def test_it_learns(vocoder):
    optimizer = torch.optim.Adam(vocoder.parameters(), 3e-3)
    units, target = torch.arange(12)[None] % 4, torch.sin(torch.arange(240) / 7)[None] / 2
    losses = []
    for _ in range(60):
        loss = nn.functional.l1_loss(vocoder(units), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0] and vocoder.generator.unit_embedding.weight.grad.abs().sum() > 0


def test_it_comes_back_from_its_folder_and_batches_as_alone(vocoder, tmp_path):
    save(tmp_path, vocoder)
    loaded, units = load_vocoder(str(tmp_path)), torch.randint(20, (3, 30))
    with torch.no_grad():
        assert torch.equal(loaded(units), vocoder(units))
        assert torch.allclose(torch.cat([vocoder(row[None]) for row in units]), vocoder(units), atol=1e-5)
    assert loaded(units[:, :0]).shape == (3, 0)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_vocoder(str(tmp_path))


def test_a_unit_beyond_its_vocabulary_is_one_line(vocoder):
    with pytest.raises(VocoderError, match=r"^unit 20 is unknown to UnitHifiGan, which has 0 to 19: use the vocoder"):
        vocoder(torch.tensor([[3, 20]]))
