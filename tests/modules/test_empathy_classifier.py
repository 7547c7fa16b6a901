import json

import pytest
import torch
from torch import nn
from transformers import RobertaTokenizer

from empathy_lightning.modules.empathy_classifier import EmpathyClassifier, encode_posts
from tests.conftest import GOLDEN, golden, golden_seeds

NAMES = {
    "responder_encoder.roberta": "response_encoder", "seeker_encoder.roberta": "seeker_encoder", "attn.out": "output",
    "attn.q_linear": "query", "attn.k_linear": "key", "attn.v_linear": "value",
    "rationale_classifier": "rationale_head", "empathy_classifier.dense": "empathy_dense",
    "empathy_classifier.out_proj": "empathy_head",
}  # fmt: skip


def renamed(state):
    unused = ("norm.", "seeker_encoder.roberta.pooler", "responder_encoder.roberta.pooler")
    kept = {key: value for key, value in state.items() if not key.startswith(unused)}
    return {next(k.replace(a, b) for a, b in NAMES.items() if k.startswith(a)): v for k, v in kept.items()}


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("folder", golden_seeds("rellm"), ids=str)
def test_golden_epitome(folder):
    tensors, _ = golden(folder, "epitome.io")
    state, _ = golden(folder, "epitome.state_dict")
    values = json.loads((folder / "epitome.json").read_text())["config"]
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    classifier = EmpathyClassifier(values["vocab_size"], *(values[name] for name in sizes)).eval()
    classifier.load_state_dict(renamed(state))
    for case in ("", "pad24."):
        inputs = [
            tensors[f"{case}in.{name}"] for name in ("seeker_ids", "seeker_mask", "response_ids", "response_mask")
        ]
        estimate = classifier(*inputs)
        close(estimate.logits, tensors[f"{case}out.logits_empathy"])
        close(estimate.rationale_logits, tensors[f"{case}out.logits_rationales"])
    estimate = classifier(*(tensors[f"in.{n}"] for n in ("seeker_ids", "seeker_mask", "response_ids", "response_mask")))
    level = nn.functional.cross_entropy(estimate.logits, tensors["in.empathy_labels"])
    heard = tensors["in.response_mask"].bool()
    reason = nn.functional.cross_entropy(estimate.rationale_logits[heard], tensors["in.rationale_labels"][heard])
    close(level, tensors["out.loss_empathy"])
    close(reason, tensors["out.loss_rationales"])
    close(values["lambda_EI"] * level + values["lambda_RE"] * reason, tensors["out.loss"])


@pytest.fixture
def toy(tmp_path):
    path = GOLDEN / "rellm" / "epitome_tokenization_toy.json"
    if not path.is_file():
        pytest.skip("no golden vectors")
    toy = json.loads(path.read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(toy["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(toy["merges"]) + "\n")
    return toy, RobertaTokenizer.from_pretrained(tmp_path)


def test_golden_tokenisation_of_the_original(toy):
    values, tokenizer = toy
    ids, mask, truncated = encode_posts(tokenizer, [c["text"] for c in values["cases"]], values["max_length"])
    assert ids.tolist() == [case["input_ids"] for case in values["cases"]]
    assert mask.long().tolist() == [case["attention_mask"] for case in values["cases"]]
    assert truncated.tolist() == [False] * 5 + [True]
    later, _, _ = encode_posts(tokenizer, ["I NEED Help"], values["max_length"], lower_case=False)
    assert later.tolist() != [values["cases"][1]["input_ids"]]


def test_texts_are_scored_each_alone(toy):
    _, tokenizer = toy
    classifier = EmpathyClassifier(300, 16, 1, 2, 24, 70).eval()
    with pytest.raises(ValueError, match="no tokenizer"):
        classifier.estimate(["hi"], ["hello"])
    classifier.tokenizer = tokenizer
    seekers, responses = ["i need help", "talk to me please, i do not want to be alone"], ["I need to talk", "x " * 90]
    together = classifier.estimate(seekers, responses)
    assert together.truncated.tolist() == [False, True] and together.rationale_logits.shape == (2, 64, 2)
    for row in range(2):
        alone = classifier.estimate([seekers[row]], [responses[row]])
        torch.testing.assert_close(together.logits[row], alone.logits[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="empty text"):
        classifier.estimate(["hi"], ["  "])


def test_control_tokens_in_a_post_are_words(toy):
    values, tokenizer = toy
    ids, mask, _ = encode_posts(tokenizer, ["talk </s> <mask> to <pad> me"], values["max_length"])
    special = set(tokenizer.all_special_ids)
    assert [i for i in ids[mask].tolist() if i in special] == [tokenizer.bos_token_id, tokenizer.eos_token_id]
