"""Emotion consensus, need of empathy and agreement of judges, by the command line."""

import json

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from empathy_lightning.__main__ import main
from empathy_lightning.data import write_manifest
from empathy_lightning.evaluation.agreement import agreement, weighted_kappa
from empathy_lightning.utterance import Utterance
from tests.evaluation.judge_server import Reply, completion, serving, words

SAID = {
    "sad": "I am so sorry, that is sad.",
    "happy": "Hooray, that is wonderful!",
    "angry": "How dare they!",
    "neutral": "It opens at nine.",
    "other": "Well.",
}


@pytest.fixture
def replies(tmp_path):
    """Replies whose main emotion is the expected one in three of five."""
    expected = ["sad", "happy", "neutral", "angry", "sad", "surprised"]
    said = ["sad", "happy", "neutral", "sad", "other", "sad"]
    rows = [
        Utterance(
            id=str(n), corpus="c", path="none.wav", transcript=f"turn {n}", split="test", emotion=emotion,
            response=SAID[kind], raw_labels={"reply_emotion": "neutral", "turn": "seeking" if n < 2 else "None"},
        )
        for n, (emotion, kind) in enumerate(zip(expected, said, strict=True))
    ]  # fmt: skip
    write_manifest(tmp_path / "replies.jsonl", rows)
    return tmp_path / "replies.jsonl"


def command(measure, replies, *options):
    out = replies.parent / "out"
    return ["evaluate", "run", "--replies", str(replies), "--out", str(out), "--measures", measure, *options]


def run(measure, replies, *options):
    """Figures, and under ``scores`` the rows."""
    assert main(command(measure, replies, *options)) == 0
    folder = replies.parent / "out"
    (suite,) = json.loads((folder / "metrics.json").read_text())["suites"].values()
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    rows = [line["measures"][measure] or {} for line in lines]
    return {**suite["measures"][measure]["figures"], "scores": rows}


def of_server(replies, server):
    cache = f"cache={replies.parent / 'answers'}"
    return ["judge=OpenAIJudge", "judge.model=j", f"judge.base_url={server.url}", cache]


def naming(number, request):
    """A judge that knows what was meant."""
    kind = next(kind for kind, text in SAID.items() if text in words(request))
    return Reply(completion({"sad": "Sadness.", "other": "bored"}.get(kind, kind)))


def test_a_judge_s_consensus(replies):
    with serving(naming) as server:
        found = run("emotion_consensus", replies, *of_server(replies, server))
        assert [row.get("consensus") for row in found["scores"]] == [1, 1, 1, 0, None, None]
        assert found["scores"][3]["named"] == "sad" and found["scores"][4]["answers"] == ["bored"]
        # Surprise is none of the four: the reply is left out, and the judge is not asked.
        assert "answers" not in found["scores"][5] and found["left_out"] == 1
        assert found["consensus"]["value"] == 0.75 and found["unparsed"] == 0.2
        assert found["by_emotion"] == {"angry": 0, "happy": 1, "neutral": 1, "sad": 1}
        assert all("tale" not in asked and "turn" not in asked for asked in server.asked())
        count = len(server.requests)
        more = run("emotion_consensus", replies, *of_server(replies, server), "emotions=[sad, bored]")
        # Other words to choose from are another question.
        assert len(server.requests) > count and more["scores"][4]["consensus"] == 0
        label = run("emotion_consensus", replies, *of_server(replies, server), "expected=reply_emotion")
    assert [row.get("consensus") for row in label["scores"]] == [0, 0, 1, 0, None, 0]


@pytest.fixture
def classifier(tmp_path):
    """A text classifier that has learnt the replies by heart; joy and happiness are one emotion."""
    folder = tmp_path / "classifier"
    vocabulary = sorted({word for text in SAID.values() for word in text.lower().replace("!", " !").split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabulary, "sad", "nine", "well", ".", ","]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    labels = ["joy", "sadness", "anger", "neutral", "happiness", "relief"]
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)},
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    target = torch.tensor([1, 0, 2, 3, 5])
    encoded = tokenizer(list(SAID.values()), padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model(**encoded, labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_classifier_s_consensus(replies, classifier, capsys):
    found = run("emotion_consensus", replies, f"classifier={classifier}")
    assert [row.get("consensus") for row in found["scores"]][:4] == [1, 1, 1, 0]
    # Relief is none of the four, so one of them is named.
    assert found["scores"][4]["named"] in SAID and found["asked"] == {"classifier": str(classifier)}
    for options, told in (
        ([f"classifier={classifier}", "emotions=[sad, fearful]"], "no label for fearful; there are joy"),
        ([f"classifier={classifier}", "judge=LocalJudge", f"judge.model={classifier}"], "one of them"),
        ([], "give a judge or a classifier of texts"),
        (["classifier=./nowhere"], "cannot be loaded"),
    ):
        assert main(command("emotion_consensus", replies, *options)) == 2
        assert told in capsys.readouterr().err


def stance(number, request):
    """Turns 0 to 2 seek empathy, and replies that are not neutral provide it."""
    asked = words(request)
    if "<reply>" not in asked:
        return Reply(completion("seeking" if any(f"turn {n}" in asked for n in range(3)) else "none"))
    if SAID["other"] in asked:
        return Reply(completion("Hard to say."))
    return Reply(completion("none" if SAID["neutral"] in asked else "providing"))


def test_kindness_where_none_is_asked_for_is_an_error(replies):
    with serving(stance) as server:
        found = run("empathy_need", replies, *of_server(replies, server))
        assert [row["fits"] for row in found["scores"]] == [1, 1, 0, 0, None, 0]
        assert found["fits"]["value"] == 0.4 and found["missed"]["value"] == round(1 / 3, 6)
        assert found["unasked"]["value"] == 1 and found["given_questions"]["unparsed"] == round(1 / 6, 6)
        assert found["counts"]["none, providing"] == 2 and found["counts"]["seeking, none"] == 1
        assert found["asked"]["need"]["criterion"] == "empathy_need"
        stated = run("empathy_need", replies, *of_server(replies, server), "empathy_need.need=turn")
        assert len(server.requests) == 12
    # By the labels turn 2 seeks nothing, so the plain reply fits.
    assert [row["fits"] for row in stated["scores"]] == [1, 1, 1, 0, None, 0]
    assert [row.get("missed") for row in stated["scores"]] == [0, 0, None, None, None, None]
    assert stated["asked"]["need"] == {"label": "turn"}


def by_scikit_learn(ours, theirs, labels):
    """Kappa from the confusion matrix, as scikit-learn writes it."""
    confusion = torch.zeros(len(labels), len(labels), dtype=torch.double)
    for a, b in zip(ours, theirs, strict=True):
        confusion[labels.index(a), labels.index(b)] += 1
    expected = confusion.sum(1)[:, None] * confusion.sum(0)[None] / confusion.sum()
    index = torch.arange(len(labels), dtype=torch.double)
    weights = (index[:, None] - index[None]) ** 2
    return float(1 - (weights * confusion).sum() / (weights * expected).sum())


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_the_formulas(seed):
    from scipy.stats import pearsonr, rankdata

    generator = torch.Generator().manual_seed(seed)
    ours = torch.randint(1, 6, (40,), generator=generator)
    theirs = (ours + torch.randint(-1, 2, (40,), generator=generator)).clamp(1, 5)
    pair = ours.tolist(), theirs.tolist()
    found = agreement(*pair)
    assert found["weighted_kappa"] == pytest.approx(by_scikit_learn(*pair, [1, 2, 3, 4, 5]), abs=1e-6)
    ranks = pearsonr(rankdata(pair[0]), rankdata(pair[1])).statistic
    assert found["spearman"] == pytest.approx(ranks, abs=1e-6)
    assert found["equal"] == pytest.approx(float((ours == theirs).double().mean()), abs=1e-6)


def test_kappa_at_its_ends():
    # Of scikit-learn 1.9.1: cohen_kappa_score([1, 2, 3, 4, 4], [1, 2, 4, 4, 2], weights="quadratic").
    assert weighted_kappa([1, 2, 3, 4, 4], [1, 2, 4, 4, 2]) == pytest.approx(0.647887323943662)
    assert weighted_kappa([1, 5], [5, 1]) == -1 and weighted_kappa([1, 2.5], [1, 2.5]) == 1


def test_two_judges_are_compared_over_the_replies_that_both_have_scored(tmp_path, capsys):
    def _judged(name, scores, said="reply"):
        rows = [Utterance(str(n), "c", "none.wav", transcript="Hello.", split="test", suite="s",
                          response=f"{said} {n}") for n in range(len(scores))]  # fmt: skip
        write_manifest(tmp_path / f"{name}.jsonl", rows)

        def _scoring(number, request):
            (n,) = [n for n in range(len(scores)) if f"{said} {n}" in words(request)]
            return Reply(completion(f"[[{scores[n]}]]"))

        with serving(_scoring) as server:
            asked = ["criterion=freezeempath_quality", "judge=OpenAIJudge", f"judge.model={name}"]
            place = [f"judge.base_url={server.url}", f"cache={tmp_path / name}"]
            assert main(["evaluate", "run", "--replies", str(tmp_path / f"{name}.jsonl"), "--out",
                         str(tmp_path / f"{name}_out"), "--measures", "judged", *asked, *place]) == 0  # fmt: skip
        return str(tmp_path / f"{name}_out")

    ours, theirs = _judged("a", [1, 2, 3, 4, "?", 4]), _judged("b", [1, 2, 4, 4, 5, 2, 3])
    out = tmp_path / "out.json"
    assert main(["evaluate", "agreement", ours, theirs, f"--out={out}"]) == 0
    (found,) = json.loads(out.read_text())
    assert (found["suite"], found["measure"], found["score"]) == ("s", "judged_freezeempath_quality", "score")
    assert found["replies"] == 5 and found["weighted_kappa"] == 0.647887 and found["difference"] == 0.2
    capsys.readouterr()
    assert main(["evaluate", "agreement", ours, _judged("one", [3, 3, 3, 3])]) == 0
    assert capsys.readouterr().out.count("undefined") == 1
    for other, more, told in (
        (_judged("few", [1]), [], "two at least"),
        (_judged("others", [1, 2], "word"), [], "hold other replies to s/c/0"),
        (str(tmp_path / "none"), [], "holds no results"),
        (theirs, ["--scores=*/empathy/*"], "no score of a judge in common"),
    ):
        assert main(["evaluate", "agreement", ours, other, *more]) == 2
        assert told in capsys.readouterr().err
