import pytest
import torch

from empathy_lightning.modules.emotion_nuance import EmotionExtractor, EmotionNuance, _WeightedSum
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


def test_weighted_sum_has_the_gradients_of_the_stacked_sum():
    weights = torch.rand(2, 3, dtype=torch.double, requires_grad=True)
    layers = [torch.randn(2, 4, 5, dtype=torch.double, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(_WeightedSum.apply, (weights, *layers))
    stacked = (weights[..., None, None] * torch.stack(layers, 1)).sum(1)
    torch.testing.assert_close(_WeightedSum.apply(weights, *layers), stacked)


def test_weights_of_full_precision_take_layers_of_half():
    weights = torch.rand(2, 2, requires_grad=True)
    layers = [torch.randn(2, 4, 5).bfloat16() for _ in range(2)]
    mixed = _WeightedSum.apply(weights, *layers)
    mixed.sum().backward()
    assert mixed.dtype == torch.float32
    expected = torch.stack([layer.float().sum((1, 2)) for layer in layers], 1)
    torch.testing.assert_close(weights.grad, expected, rtol=1e-5, atol=1e-5)


def test_of_frozen_layers_the_graph_keeps_no_copy():
    extractor = EmotionExtractor(64, 8, hidden_size=8, gate_size=4)
    layers = [torch.randn(2, 50, 64) for _ in range(12)]
    own = {layer.data_ptr() for layer in layers}
    parameters = {parameter.data_ptr() for parameter in extractor.parameters()}
    kept = {}

    def _keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(_keep, lambda tensor: tensor):
        extractor(layers, torch.ones(2, 50, dtype=torch.bool)).sum()
    assert own <= set(kept)
    copies = sum(size for pointer, size in kept.items() if pointer not in own | parameters)
    # The sum, its norm, and the keys and values of the pooling; a stack alone would be twelve layers.
    assert copies < 6 * layers[0].nbytes


def run(extractor, frames=7):
    torch.manual_seed(1)
    layers = [torch.randn(2, frames, 16) for _ in range(3)]
    return layers, torch.arange(frames) < torch.tensor([[frames], [4]]), extractor


def test_the_last_layer_alone():
    layers, mask, extractor = run(EmotionExtractor(16, 8, 12, 4, layers="last"))
    assert not [name for name in extractor.state_dict() if name.startswith("gate")]
    assert extractor.layer_weights(layers, mask).tolist() == [[0, 0, 1]] * 2
    expected = extractor(layers, mask)
    torch.testing.assert_close(extractor([torch.randn_like(layers[0]), layers[2]], mask), expected)
    pooled = extractor.attn_pool(extractor.layernorm(layers[2]), mask)
    torch.testing.assert_close(expected, extractor.linear2(extractor.linear1(pooled).relu()))


def test_the_mean_over_valid_frames():
    layers, mask, extractor = run(EmotionExtractor(16, 8, 12, 4, pooling="mean"))
    assert not [name for name in extractor.state_dict() if name.startswith("attn_pool")]
    weights = extractor.layer_weights(layers, mask)
    for row, length in enumerate((7, 4)):
        mixed = sum(weights[row, i] * layers[i][row, :length] for i in range(3))
        pooled = extractor.layernorm(mixed).mean(0)
        expected = extractor.linear2(extractor.linear1(pooled).relu())
        torch.testing.assert_close(extractor(layers, mask)[row], expected)


def test_statistics_over_valid_frames():
    layers, mask, extractor = run(EmotionExtractor(16, 8, 12, 4, layers="last", pooling="statistics"))
    for row, length in enumerate((7, 4)):
        frames = extractor.layernorm(layers[2][row, :length])
        pooled = torch.cat([frames.mean(0), (frames.var(0, unbiased=False) + 1e-5).sqrt()])
        expected = extractor.linear2(extractor.linear1(pooled).relu())
        torch.testing.assert_close(extractor(layers, mask)[row], expected)


def test_defaults_have_the_reference_s_parameters_and_others_are_refused():
    names = {name.split(".")[0] for name in EmotionExtractor(16, 8, 12, 4).state_dict()}
    assert names == {"gate_fc1", "gate_fc2", "layernorm", "attn_pool", "linear1", "linear2"}
    with pytest.raises(ValueError, match="layers is gate or last"):
        EmotionNuance(16, 8, layers="first")
    with pytest.raises(ValueError, match="pooling is attention, mean"):
        EmotionNuance(16, 8, pooling="max")


@pytest.mark.parametrize(
    "options", [{"layers": "last"}, {"pooling": "mean"}, {"pooling": "statistics", "layers": "last"}]
)
def test_every_parameter_of_an_ablation_is_used(options):
    nuance = EmotionNuance(16, 8, hidden_size=12, gate_size=4, **options)
    layers, mask, _ = run(None)
    estimate = nuance(layers, mask)
    sum(value.sum() for value in vars(estimate).values()).backward()
    assert all(parameter.grad is not None for parameter in nuance.parameters())
