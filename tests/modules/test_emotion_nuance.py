import pytest
import torch

from empathy_lightning.modules.emotion_nuance import EmotionExtractor, EmotionNuance
from tests.conftest import golden, golden_seeds


@pytest.mark.parametrize("folder", golden_seeds("freezeempath"), ids=str)
def test_golden_emotion_extractor(folder):
    tensors, state = golden(folder, "b_emotion_extractor")
    layers = tensors["input.x"].unbind(1)
    mask = torch.ones(layers[0].shape[:2], dtype=torch.bool)
    extractor = EmotionExtractor(layers[0].shape[2], tensors["output.y"].shape[2])
    extractor.load_state_dict(state)
    torch.testing.assert_close(
        extractor.layer_weights(layers, mask), tensors["mid.layer_weights"], rtol=2e-5, atol=1e-6
    )
    torch.testing.assert_close(extractor(layers, mask), tensors["output.y"][:, 0], rtol=2e-5, atol=2e-5)


def test_without_rating_heads_there_are_no_ratings_and_it_still_trains():
    nuance = EmotionNuance(16, 8, num_emotions=3, hidden_size=12, gate_size=4, rate_dimensions=False)
    assert not any("arousal" in key or "valence" in key or "dominance" in key for key in nuance.state_dict())
    estimate = nuance([torch.randn(4, 5, 16) for _ in range(2)], torch.ones(4, 5, dtype=torch.bool))
    assert all(getattr(estimate, name).isnan().all() for name in ("arousal", "valence", "dominance"))
    (estimate.logits.sum() + estimate.embedding.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in nuance.parameters())


def test_padding_changes_nothing():
    nuance = EmotionNuance(16, 8, hidden_size=12, gate_size=4).eval()
    layers = [torch.randn(2, 9, 16) for _ in range(3)]
    mask = torch.arange(9) < torch.tensor([[9], [5]])
    together = nuance(layers, mask)
    alone = nuance([layer[1:, :5] for layer in layers], mask[1:, :5])
    for name, value in vars(together).items():
        torch.testing.assert_close(value[1:], getattr(alone, name), rtol=1e-5, atol=1e-6)


def test_ratings_lie_between_zero_and_one_and_gradients_reach_every_part():
    nuance = EmotionNuance(16, 8, num_emotions=3, hidden_size=12, gate_size=4)
    estimate = nuance([10 * torch.randn(4, 5, 16) for _ in range(2)], torch.ones(4, 5, dtype=torch.bool))
    assert estimate.logits.shape == (4, 3) and estimate.embedding.shape == (4, 8)
    for rating in (estimate.arousal, estimate.valence, estimate.dominance):
        assert rating.shape == (4,) and (rating >= 0).all() and (rating <= 1).all()
    (estimate.logits.sum() + estimate.arousal.sum() + estimate.valence.sum() + estimate.dominance.sum()).backward()
    assert all(parameter.grad is not None for parameter in nuance.parameters())
