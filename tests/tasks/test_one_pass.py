"""Adam's steps by one kernel: the same weights, where nobody chose otherwise."""

import pytest
import torch
from torch.optim import SGD, Adam, AdamW

from empathy_lightning.tasks.one_pass import in_one_pass


def stepped(make):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(size)) for size in ((40, 30), (30,), ())]
    optimizer = make(weights)
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return weights, optimizer


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_weights_are_those_of_torch_s_own_steps(kind):
    plain, _ = stepped(lambda weights: kind(weights, lr=0.01, weight_decay=0.1, betas=(0.8, 0.98)))
    fused, optimizer = stepped(lambda weights: in_one_pass(kind(weights, lr=0.01, weight_decay=0.1, betas=(0.8, 0.98))))
    assert optimizer.param_groups[0]["fused"]
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": False}, {"differentiable": True}])
def test_what_somebody_chose_stays(options):
    optimizer = AdamW([torch.nn.Parameter(torch.ones(2))], **options)
    before = [dict(group) for group in optimizer.param_groups]
    assert in_one_pass(optimizer).param_groups == before


def test_other_optimisers_stay():
    _, optimizer = stepped(lambda weights: in_one_pass(SGD(weights, lr=0.1)))
    assert not optimizer.param_groups[0]["fused"]
