import json

import pytest
import torch

from empathy_lightning.modules.cformer import CFormer
from tests.conftest import golden, golden_seeds


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
@pytest.mark.parametrize("case", ["train", "eval"])
def test_golden_cformer(folder, case):
    tensors, _ = golden(folder, "cformer.io")
    state, _ = golden(folder, "cformer.state_dict")
    config = json.loads((folder / "cformer.json").read_text())["config"]
    adapter = CFormer(
        config["d_model"], config["out_dim"], config["vocab"], config["ffn"], config["heads"], config["pre"],
        config["post"], reference_compat=True,
    ).eval()  # fmt: skip
    adapter.load_state_dict(state)
    known = tensors["in.num_tokens"] if case == "train" else None
    fired = adapter.fire(tensors["in.hidden"], tensors["in.mask"].bool(), known)
    names = {"logits": "logits", "weights": "alphas_scaled", "total": "alpha_sum", "embeddings": "hidden"}
    mask = tensors[f"{case}.out.mask"].bool()
    assert torch.equal(fired.mask, mask)
    for ours, theirs in names.items():
        value, expected = getattr(fired, ours), tensors[f"{case}.out.{theirs}"]
        if value.ndim == 3:
            value, expected = value[mask], expected[mask]
        torch.testing.assert_close(value, expected, rtol=2e-5, atol=2e-5)
    loss = (fired.total / tensors["in.num_tokens"] - 1).abs().mean()
    torch.testing.assert_close(loss, tensors[f"{case}.out.cif_loss"], rtol=2e-5, atol=2e-5)


def fire_step_by_step(frames, weights, count):
    """Integrate and fire as it is told: fill a token up to one, carry the rest to the next."""
    tokens, room, current = [], 1.0, torch.zeros(frames.shape[1])
    for frame, weight in zip(frames, weights.tolist(), strict=True):
        while weight >= room and len(tokens) < count - 1:
            tokens.append(current + room * frame)
            weight, room, current = weight - room, 1.0, torch.zeros(frames.shape[1])
        current = current + weight * frame
        room -= weight
    return torch.stack([*tokens, current])


def test_tokens_are_those_of_firing_step_by_step_even_several_in_a_frame():
    from empathy_lightning.modules.cformer import _integrate

    counts = torch.tensor([9, 3, 1])
    weights = torch.rand(3, 5)
    weights = weights * (counts / weights.sum(1))[:, None]
    frames = torch.randn(3, 5, 4)
    tokens = _integrate(frames, weights, counts)
    for row, count in enumerate(counts.tolist()):
        expected = fire_step_by_step(frames[row], weights[row], count)
        torch.testing.assert_close(tokens[row, :count], expected, rtol=1e-5, atol=1e-5)


def test_a_result_does_not_depend_on_the_batch():
    adapter = CFormer(8, 6, 11, 12, num_heads=2, layers_before=1, layers_after=1).eval()
    frames, mask = torch.randn(2, 30, 8), torch.arange(30) < torch.tensor([[30], [17]])
    together, valid, _ = adapter(frames, mask)
    alone, _, _ = adapter(frames[1:, :17], mask[1:, :17])
    assert int(valid[1].sum()) == alone.shape[1]
    torch.testing.assert_close(together[1, valid[1]], alone[0], rtol=1e-4, atol=1e-5)
