import pytest
import torch

from empathy_lightning.modules.speech_adapter import SpeechAdapter
from tests.conftest import golden, golden_seeds


@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_concatenating_adapter(folder):
    tensors, state = golden(folder, "a_projector")
    frames = tensors["input.x60"]
    adapter = SpeechAdapter(frames.shape[2], tensors["output.y60"].shape[2], drop_incomplete=True)
    adapter.load_state_dict(state)
    for length in (60, 57, 3):
        frames, expected = tensors[f"input.x{length}"], tensors[f"output.y{length}"]
        embeddings, mask = adapter(frames, torch.ones(frames.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(embeddings, expected, rtol=2e-5, atol=2e-5)
        assert mask.shape == expected.shape[:2] and mask.all()


def test_a_started_group_counts_and_the_batch_does_not_matter():
    adapter = SpeechAdapter(4, 6, hidden_size=8)
    frames = torch.randn(2, 12, 4)
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    embeddings, valid = adapter(frames, mask)
    assert valid.sum(1).tolist() == [3, 2]
    alone, _ = adapter(frames[1:, :7], mask[1:, :7])
    torch.testing.assert_close(embeddings[1, :2], alone[0])


def test_the_words_of_the_last_frames_are_not_lost():
    adapter = SpeechAdapter(4, 6, hidden_size=8)
    frames, mask = torch.randn(1, 7, 4), torch.ones(1, 7, dtype=torch.bool)
    changed = frames.clone()
    changed[0, 6] += 1
    assert not torch.allclose(adapter(frames, mask)[0], adapter(changed, mask)[0])
