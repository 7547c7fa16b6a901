"""EPITOME's trainer, from the files of Reddit to `evaluate run`, by the command line."""

import json

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.corpora.corpus import CorpusError
from empathy_lightning.corpora.epitome_reddit import EpitomeReddit
from empathy_lightning.data import write_manifest
from empathy_lightning.data.batch import collate
from empathy_lightning.losses import RationaleLoss
from empathy_lightning.metrics.empathy import LevelAccuracy, LevelMacroF1, RationaleF1
from empathy_lightning.modules.empathy_classifier import EmpathyEstimate, from_roberta, rationale_tokens
from empathy_lightning.outputs import EmpathyOutput
from empathy_lightning.tasks import EmpathyClassifierTask, Linear
from empathy_lightning.utterance import Utterance
from tests.conftest import ROOT
from tests.corpora import epitome_reddit


def write_roberta(folder):
    """A RoBERTa of random weights that reads bytes."""
    folder.mkdir(exist_ok=True)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokens), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=66, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return write_roberta(tmp_path_factory.mktemp("roberta"))


def words(root, roberta, mechanism, *more):
    return [
        f"--config={ROOT / 'examples/epitome.yaml'}", f"--data.corpora.root={root}", f"--out=out/{mechanism}",
        f"--data.corpora.mechanism={mechanism}", f"--model.mechanism={mechanism}",
        f"--model.classifier.name_or_path={roberta}", "--trainer.accelerator=cpu", *more,
    ]  # fmt: skip


def test_from_the_files_to_scores_of_replies(tmp_path, roberta, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = epitome_reddit.write(tmp_path / "clone", 120)
    quick = (
        "--trainer.max_epochs=12",
        "--model.optimizer.lr=5e-3",
        "--trainer.log_every_n_steps=1",
        "--data.batch_size=16",
    )
    for mechanism in ("emotional_reaction", "exploration"):
        assert main(["fit", *words(root, roberta, mechanism, *quick)]) == 0
    capsys.readouterr()
    assert main(["test", *words(root, roberta, "exploration", *quick), "--ckpt_path=last"]) == 0
    figures = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert float(figures["test/accuracy"]) == 1 and float(figures["test/macro_f1"]) == 1
    assert float(figures["test/rationale_f1"]) > 0.8 and "test/rationale_loss" in figures
    trained = json.loads((tmp_path / "out/exploration/training.json").read_text())
    assert trained["frozen_unchanged"]
    untrained = from_roberta(str(roberta)).seeker_encoder.state_dict()
    loaded = load_empathy_classifier(tmp_path / "out/exploration")
    for name, value in loaded.seeker_encoder.state_dict().items():
        assert torch.equal(value, untrained[name])
    rows = [
        Utterance(
            id=str(n),
            corpus="c",
            path="x.wav",
            split="test",
            transcript="My day 3\nwas bad, \u00fcbel",
            response=f"{reply}.",
        )
        for n, (reply, _) in epitome_reddit.SHOWN.items()
    ]
    write_manifest(tmp_path / "replies.jsonl", rows)
    scored = ["evaluate", "run", "--replies=replies.jsonl", "--measures", "empathy", "folder=out", "--out=scores"]
    assert main(scored) == 0
    lines = (tmp_path / "scores/predictions.jsonl").read_text().splitlines()
    found = [json.loads(line)["measures"]["empathy"] for line in lines]
    assert [(row["emotional_reaction"], row["exploration"]) for row in found] == [(2, 0), (1, 1), (0, 2)]
    # A folder of its own may be begun with.
    begun = ("--model.initial_weights=[out/exploration]", "--trainer.max_epochs=1", "--out=out/again")
    assert main(["fit", *words(root, roberta, "exploration", *begun)]) == 0


def test_pairs_of_another_mechanism_are_refused(tmp_path, roberta, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = epitome_reddit.write(tmp_path / "clone")
    wrong = "--data.corpora.mechanism=interpretation"
    assert main(["fit", *words(root, roberta, "exploration", wrong)]) == 2
    assert "give data.corpora.mechanism exploration too" in capsys.readouterr().err


def test_the_files_are_read_as_they_are(tmp_path):
    root = epitome_reddit.write(tmp_path)
    corpus = EpitomeReddit(str(root), "exploration")
    pairs = corpus.utterances()
    assert len(pairs) == 60 and not corpus.skipped
    assert pairs[0].transcript == "My day 0\nwas bad, \u00fcbel" and pairs[0].raw_labels["level"] == "2"
    # Replies to one post stay together.
    splits = {pair.session: pair.split for pair in pairs}
    assert all(splits[pair.session] == pair.split for pair in pairs) and set(splits.values()) == {
        "train", "validation", "test"
    }  # fmt: skip
    file = root / "dataset/explorations-reddit.csv"
    text = file.read_text(encoding="utf-8")
    file.write_text(text + "a,b,post,reply,3,\na,c,post,,1,\na,b,post,reply,1,\n", encoding="utf-8")
    assert len(corpus.utterances()) == 61
    assert [fault.reason for fault in corpus.skipped] == ["level '3' is none of 0, 1 and 2", "no response_post"]
    file.write_text(text.replace("rationales", "rationale_labels"), encoding="utf-8")
    with pytest.raises(CorpusError, match="no column rationales"):
        corpus.utterances()
    file.unlink()
    with pytest.raises(CorpusError, match="clone"):
        corpus.utterances()


def test_rationales_are_told_by_their_words(roberta):
    tokenizer = from_roberta(str(roberta)).tokenizer
    reply = "So SORRY, so <s>"
    found = rationale_tokens(
        tokenizer, [reply] * 4, [["so", "Sorry"], [" ", ""], ["joy"], ["<s>"]], max_length=24
    )  # fmt: skip
    text = f" {reply.lower()}"
    marks = ["".join("x" if own else "." for own in row.tolist()) for row in found]
    # The first token is the mark of the beginning, the next ones the bytes of the text.
    assert marks[0] == "." + ".xx.xxxxx..xx....".ljust(23, ".") and len(text) == 17
    assert marks[1] == "x" * 19 + "." * 5 and marks[2] == "." * 24 and marks[3] == "." * 15 + "xxx" + "." * 6


def test_both_losses_are_the_formulas(roberta):
    classifier = from_roberta(str(roberta)).eval()
    task = EmpathyClassifierTask(classifier, "exploration").eval()
    said, replies = ["Bad day", "Hello"], ["Oh no, why?", "Fine"]
    labels = [{"mechanism": "exploration", "level": level, "rationales": r} for level, r in (("2", "why?"), ("0", ""))]
    rows = [
        (torch.zeros(1), Utterance(id=str(n), corpus="c", path="", transcript=s, response=r, raw_labels=own))
        for n, (s, r, own) in enumerate(zip(said, replies, labels, strict=True))
    ]
    batch = collate(rows, [])
    output = task.output(batch)
    estimate = classifier.estimate(said, replies)
    level = -(estimate.logits.log_softmax(-1)[0, 2] + estimate.logits.log_softmax(-1)[1, 0]) / 2
    torch.testing.assert_close(output.losses, {"level": level})
    # " oh no, why?" and " fine" are 12 and 5 bytes, with a mark before and after; the last four of the first count.
    terms = []
    for row, (length, own) in enumerate([(14, range(9, 13)), (7, range(7))]):
        scores = estimate.rationale_logits[row].log_softmax(-1)
        terms += [-scores[place, int(place in own)] for place in range(length)]
    torch.testing.assert_close(RationaleLoss()(output, batch), torch.stack(terms).mean())


def test_figures_of_levels_and_rationales():
    """Macro F1 as scikit-learn's f1_score with the labels of the reference: 0.5, 0.8 and 0.8 of three levels."""
    guessed, levels = torch.tensor([0, 1, 1, 1, 2, 0, 2]), torch.tensor([0, 0, 1, 1, 2, 2, 2])
    tokens = torch.tensor([[[0.0, 1], [1, 0], [0, 1]]]).expand(7, 3, 2)
    own = torch.tensor([[True, True, False]]).expand(7, 3)
    estimate = EmpathyEstimate(torch.eye(3)[guessed], tokens)
    mask = torch.tensor([[True, True, False]]).expand(7, 3)
    output = EmpathyOutput(torch.zeros(()), estimate, levels, own, mask)
    found = []
    for metric in (LevelMacroF1(), LevelAccuracy(), RationaleF1()):
        metric.update(output, None)
        metric.update(output, None)
        found.append(float(metric.compute()))
    # Of two tokens that belong one is found, and what stands in the padding counts for nothing.
    assert found == pytest.approx([(0.5 + 0.8 + 0.8) / 3, 5 / 7, 2 / 3])


def test_the_linear_schedule():
    assert [Linear().factor(step, 4) for step in range(5)] == [1, 0.75, 0.5, 0.25, 0]
    assert [Linear(2).factor(step, 6) for step in range(7)] == [0.5, 1, 1, 0.75, 0.5, 0.25, 0]
    assert Linear().factor(9, float("inf")) == 1
