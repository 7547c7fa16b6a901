import pytest
import torch

from empathy_lightning.modules.layer_statistics import LayerStatistics, Standardisation


def heard(rows=6, scale=1.0):
    """Three layers of some speech, each dimension at a place and a scale of its own, and its mask."""
    generator = torch.Generator().manual_seed(rows)
    place, size = torch.linspace(-50, 80, 16), torch.logspace(0, 2, 16)
    layers = [scale * (place + size * torch.randn(rows, 9, 16, generator=generator)) for _ in range(3)]
    return layers, torch.arange(9) < torch.arange(4, 4 + rows).clamp(max=9)[:, None]


def test_it_reads_the_standardised_mean_and_deviation_of_each_layer():
    module = LayerStatistics(16, 8, num_layers=3, dropout=0.0)
    layers, mask = heard()
    module(layers, mask)
    module.eval()
    rows = []
    for row, valid in enumerate(mask):
        own = [layer[row, valid].double() for layer in layers]
        rows.append(torch.cat([part for x in own for part in (x.mean(0), (x.var(0, correction=0) + 1e-5).sqrt())]))
    rows = torch.stack(rows)
    standard = (rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
    expected = standard.float() @ module.project.weight.T + module.project.bias
    estimate = module(layers, mask)
    torch.testing.assert_close(estimate.embedding, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(estimate.logits, expected @ module.categorical_head.weight.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sizes", [[100], [1, 99], [7] * 14 + [2], [1] * 100])
def test_what_was_met_does_not_depend_on_how_it_was_divided(sizes):
    rows = 5 + torch.randn(100, 4) * torch.tensor([0.1, 1.0, 10.0, 100.0])
    standardisation = Standardisation(4)
    for part in rows.split(sizes):
        standardisation(part)
    torch.testing.assert_close(standardisation.mean, rows.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(standardisation.variance, rows.var(0, correction=0), rtol=1e-4, atol=1e-4)
    again = Standardisation(4)
    again.load_state_dict(standardisation.state_dict())
    assert torch.equal(again.eval()(rows), standardisation.eval()(rows))


def test_no_layer_drowns_another_and_padding_changes_nothing():
    """Whisper's layers differ in scale by two orders; a scale is no reason to be heard."""
    layers, mask = heard()
    module = LayerStatistics(16, 8, num_layers=3, hidden_size=12, dropout=0.0)
    module(layers, mask)
    estimate = module.eval()(layers, mask)
    louder = LayerStatistics(16, 8, num_layers=3, hidden_size=12, dropout=0.0)
    louder.load_state_dict(module.state_dict())
    louder.standardisation = Standardisation(96)
    many = [layers[0], 100 * layers[1], layers[2]]
    louder.train()(many, mask)
    for name, value in vars(louder.eval()(many, mask)).items():
        if value is not None:
            torch.testing.assert_close(value, getattr(estimate, name), rtol=1e-2, atol=1e-2)
    alone = module([layer[:1, :4] for layer in layers], mask[:1, :4])
    torch.testing.assert_close(alone.logits, estimate.logits[:1], rtol=1e-4, atol=1e-4)


def test_a_batch_of_one_trains_and_every_part_gets_a_gradient():
    module = LayerStatistics(16, 8, num_layers=3, num_emotions=3, dropout=0.0)
    layers, mask = heard()
    module(layers, mask)
    estimate = module([layer[:1] for layer in layers], mask[:1])
    assert estimate.logits.shape == (1, 3) and estimate.embedding.shape == (1, 8)
    (estimate.logits.sum() + estimate.arousal.sum() + estimate.valence.sum() + estimate.dominance.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    silent = LayerStatistics(16, 8, num_layers=3, rate_dimensions=False)
    assert silent(layers, mask).arousal.isnan().all() and "arousal_head.weight" not in silent.state_dict()


def test_it_says_which_layers_it_reads():
    module = LayerStatistics(16, 8, num_layers=3, rate_dimensions=False).eval()
    with torch.no_grad():
        # The mean of the first layer with twice the weight of the deviation of the third.
        module.project.weight.zero_()
        module.project.weight[:, :16], module.project.weight[:, 80:] = 2.0, 1.0
    layers, mask = heard()
    torch.testing.assert_close(module(layers, mask).layer_weights, torch.tensor([[0.8, 0.0, 0.2]]).expand(6, -1))
