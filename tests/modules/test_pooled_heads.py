from types import SimpleNamespace

import pytest
import torch

from empathy_lightning.losses import CategoricalLoss, RatingLoss
from empathy_lightning.modules.pooled_heads import PooledEmotionHeads
from empathy_lightning.outputs import EmpatheticOutput
from tests.conftest import golden, golden_seeds


def golden_heads(state):
    classes, width = state["hidden2emotion.weight"].shape
    heads = PooledEmotionHeads(width, classes)
    ratings = dict(zip(("arousal", "valence", "dominance"), state["hidden2w2v2.weight"], strict=True))
    heads.load_state_dict(
        {"categorical_head.weight": state["hidden2emotion.weight"]}
        | {f"{name}_head.weight": row[None] for name, row in ratings.items()}
    )
    return heads


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
def test_golden_heads_and_their_losses(folder):
    tensors, _ = golden(folder, "heads_losses.io")
    heads = golden_heads(golden(folder, "heads_losses.state_dict")[0])
    estimate = heads(tensors["in.adapter_hidden"], tensors["in.adapter_mask"].bool())
    torch.testing.assert_close(estimate.embedding, tensors["out.pooled"], rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(estimate.logits, tensors["out.emotion_logits"], rtol=2e-5, atol=2e-5)
    ratings = torch.stack([estimate.arousal, estimate.valence, estimate.dominance], 1)
    torch.testing.assert_close(ratings, tensors["out.avd_logits"], rtol=2e-5, atol=2e-5)
    batch = SimpleNamespace(
        emotion=tensors["in.emotion_labels"],
        **{name: tensors[f"in.{name}"] for name in ("arousal", "valence", "dominance")},
    )
    output = EmpatheticOutput(None, estimate)
    torch.testing.assert_close(CategoricalLoss()(output, batch), tensors["out.loss.input_er"], rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(RatingLoss()(output, batch), tensors["out.loss.input_er_avd"], rtol=2e-5, atol=2e-5)


def test_padding_is_left_out_of_the_mean():
    heads = PooledEmotionHeads(4)
    embeddings = torch.randn(1, 5, 4)
    mask = torch.tensor([[True, True, True, False, False]])
    changed = embeddings.clone()
    changed[0, 3:] = 1000.0
    estimate = heads(changed, mask)
    torch.testing.assert_close(estimate.embedding[0], embeddings[0, :3].mean(0))
    torch.testing.assert_close(estimate.valence[:, None], heads.valence_head(estimate.embedding))
