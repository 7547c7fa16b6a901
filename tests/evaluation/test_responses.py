import json
import math

import pytest
import torch
from tokenizers import pre_tokenizers
from torchmetrics.functional.text import bert_score
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.conversion import epitome
from empathy_lightning.corpora import read_manifest, write_manifest
from empathy_lightning.evaluation.reply_scores import Empathy, bert_scores, compare, named_emotions, overlap, variety
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from empathy_lightning.utterance import Utterance
from tests.conversion.test_epitome import original

SAID = ("I lost my job today.", "We won the game!", "Nobody called me.", "What time is it?", "The dog is ill.", "Ha!")
REPLIES = (
    "I am so sorry, that must be hard. What happened?", "You sound happy! " * 12, "", "I would be happy to help.",
    "You sound sad.", "You sound sad.",
)  # fmt: skip
EMOTIONS = ("sad", "happy", "sad", "neutral", "sad", "happy")


def write_vocabulary(folder):
    """Bytes alone, in the files of RoBERTa's tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def utterances(replies=REPLIES):
    rows = zip(SAID, replies, EMOTIONS, strict=True)
    return [
        Utterance(str(i), "c", "a.wav", transcript=said, emotion=emotion, response=reply, split="test")
        for i, (said, reply, emotion) in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """Two mechanisms as `convert epitome` writes them; no level is likelier than another, so that levels differ."""
    folder = tmp_path_factory.mktemp("epitome")
    write_vocabulary(folder)
    for seed, name in enumerate(("ER", "EX")):
        torch.manual_seed(seed)
        classifier = EmpathyClassifier(261, 64, 1, 1, 48, 66).eval()
        classifier.tokenizer = RobertaTokenizer.from_pretrained(folder)
        pairs = [(said, reply) for said, reply in zip(SAID, REPLIES, strict=True) if reply]
        with torch.no_grad():
            classifier.empathy_head.bias -= classifier.estimate(*zip(*pairs, strict=True)).logits.mean(0)
        torch.save(original(classifier.state_dict()), folder / f"{name}.pth")
    epitome.convert(folder, folder / "out")
    return folder / "out"


@pytest.fixture
def manifest(tmp_path):
    write_manifest(tmp_path / "replies.jsonl", utterances())
    return tmp_path / "replies.jsonl"


def evaluate(manifest, out, *more):
    assert main(["evaluate-responses", str(manifest), "--out", str(out), *map(str, more)]) == 0
    return json.loads(out.read_text())


def test_levels_are_the_classifier_s_on_each_pair_alone(classifiers, manifest, tmp_path, capsys):
    figures = evaluate(manifest, tmp_path / "f.json", "--empathy-classifier", classifiers)
    assert list(figures["empathy"]) == ["emotional_reaction", "exploration"]
    for name, measured in figures["empathy"].items():
        classifier = load_empathy_classifier(classifiers / name)
        levels = [
            int(classifier.estimate([said], [reply]).logits.argmax()) if reply else 0
            for said, reply in zip(SAID, REPLIES, strict=True)
        ]
        assert [row[name] for row in figures["scores"]] == levels and len(set(levels)) > 1
        mean = sum(levels) / 6
        assert measured["mean"] == pytest.approx(mean, abs=1e-6)
        assert measured["standard_deviation"] == pytest.approx(
            math.sqrt(sum((level - mean) ** 2 for level in levels) / 6), abs=1e-6
        )
        shares = [measured[key] for key in ("none", "weak", "strong")]
        assert shares == pytest.approx([levels.count(level) / 6 for level in range(3)], abs=1e-6)
        assert measured["truncated"] == pytest.approx(1 / 6, abs=1e-6)
    assert [row["truncated"] for row in figures["scores"]] == [False, True, False, False, False, False]
    assert figures["replies"] == 6 and figures["without_words"] == 1
    printed = capsys.readouterr().out
    assert f"{mean:.3f}" in printed and "emotional reaction" in printed
    alone = evaluate(manifest, tmp_path / "g.json", "--empathy-classifier", classifiers / "exploration")
    assert alone["empathy"] == {"exploration": figures["empathy"]["exploration"]}


def test_what_was_said_must_be_known(classifiers, tmp_path):
    rows = utterances()
    rows[0].transcript = None
    write_manifest(tmp_path / "m.jsonl", rows)
    figures = evaluate(tmp_path / "m.jsonl", tmp_path / "f.json", "--empathy-classifier", classifiers)
    assert figures["scores"][0]["exploration"] is None and figures["empathy"]["exploration"]["replies"] == 5
    assert Empathy([None], [False]).figures() == {"replies": 0}


def test_two_systems_are_compared_utterance_by_utterance(classifiers, manifest, tmp_path, capsys):
    others = utterances(("x", "y y y", "What?", "No. " * 9, "I see", "Ha"))[1:]
    write_manifest(tmp_path / "others.jsonl", reversed(others))
    options = ("--empathy-classifier", classifiers, "--against", tmp_path / "others.jsonl")
    figures = evaluate(manifest, tmp_path / "f.json", *options)
    theirs = evaluate(tmp_path / "others.jsonl", tmp_path / "o.json", "--empathy-classifier", classifiers)
    for name, compared in figures["against"].items():
        levels = {row["id"]: row[name] for row in figures["scores"]}
        differences = [levels[row["id"]] - row[name] for row in theirs["scores"]]
        assert compared["pairs"] == 5 and compared["difference"] == pytest.approx(sum(differences) / 5, abs=1e-6)
    assert "difference" in capsys.readouterr().out
    itself = evaluate(manifest, tmp_path / "f.json", *options[:3], manifest)
    assert all(c == {"pairs": 6, "difference": 0.0, "p": 1.0} for c in itself["against"].values())


def test_the_test_is_wilcoxon_s():
    ours, theirs = [2, 2, 2, 1, 0, 2, 2, 1, 2, 2, None], [0, 1, 1, 1, 1, 0, 1, 0, 1, 0, 2]
    differences = [a - b for a, b in zip(ours[:-1], theirs[:-1], strict=True) if a != b]
    ranks = {size: sum(sorted(map(abs, differences)).index(size) + 1 + k for k in range(n)) / n
             for size in (1, 2) for n in [list(map(abs, differences)).count(size)]}  # fmt: skip
    down, n = sum(ranks[-d] for d in differences if d < 0), len(differences)
    ties = [list(map(abs, differences)).count(size) for size in (1, 2)]
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48)
    expected = math.erfc(abs(down - n * (n + 1) / 4) / spread / math.sqrt(2))
    compared = compare(ours, theirs)
    assert compared["pairs"] == 10 and compared["difference"] == pytest.approx(1.0)
    # Few pairs: scipy's p is exact, the formula is the approximation for many.
    assert compared["p"] == pytest.approx(expected, abs=0.01) and compared["p"] < 0.05
    many = compare(ours[:-1] * 20, theirs[:-1] * 20)
    assert many["p"] < 1e-10 < compare([1, 0, 2], [0, 1, 2])["p"]


def test_overlap_against_expected_responses(manifest, tmp_path):
    write_manifest(tmp_path / "same.jsonl", utterances())
    one = utterances()[4:5]
    write_manifest(tmp_path / "one.jsonl", one)
    one[0].response = "You sound very sad."
    write_manifest(tmp_path / "other.jsonl", one)
    figures = evaluate(tmp_path / "one.jsonl", tmp_path / "f.json", "--references", manifest)["overlap"]
    assert {name: figures[name] for name in ("references", "rouge1", "chrf")} == {
        "references": 1, "rouge1": 1.0, "chrf": 1.0,
    }  # fmt: skip
    figures = evaluate(manifest, tmp_path / "f.json", "--references", tmp_path / "other.jsonl")["overlap"]
    # You sound sad / You sound very sad: precision 1, recall 3/4; one of two pairs of words, of three.
    assert figures["rouge1"] == pytest.approx(6 / 7, abs=1e-6) and figures["references"] == 1
    assert figures["rouge2"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3), abs=1e-6)


def test_bleu_by_hand():
    # 4-grams to words: 1/3, 2/4, 3/5 and 5/6 of "a b c d x ." are in the reference of as many words.
    found = overlap(["a b c d x ."], ["a b c d e ."])["bleu"]
    assert found == pytest.approx((1 / 3 * 2 / 4 * 3 / 5 * 5 / 6) ** 0.25, abs=1e-5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=261, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    write_vocabulary(folder)
    RobertaTokenizer.from_pretrained(folder, model_max_length=128).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layer", [None, 1])
def test_bert_scores_are_torchmetrics_of_each_pair_alone(encoder, layer):
    replies, references = ["You sound sad.", "", "x " * 100, "Yes"], ["You sound very sad.", "Oh", "y x", "Yes"]
    options = {"model": RobertaModel.from_pretrained(encoder).eval(), "num_layers": layer, "max_length": 128}
    options |= {"user_tokenizer": RobertaTokenizer.from_pretrained(encoder), "truncation": True}
    expected = [
        float(bert_score([reply], [reference], **options)["f1"]) if reply else 0.0
        for reply, reference in zip(replies, references, strict=True)
    ]
    assert expected[3] == pytest.approx(1) and expected[0] < 0.95
    for size in (1, 3):
        assert bert_scores(replies, references, str(encoder), layer, size) == pytest.approx(expected, abs=1e-5)


def test_the_command_takes_the_encoder_s_folder(encoder, manifest, tmp_path, capsys):
    more = ("--references", manifest, "--bert-score", encoder)
    figures = evaluate(manifest, tmp_path / "f.json", *more)
    assert figures["overlap"]["bert_score"] == pytest.approx(5 / 6, abs=1e-4)
    assert figures["scores"][2]["bert_score"] == 0
    assert main(["evaluate-responses", str(manifest), *map(str, more), "--bert-layer", "3"]) == 2
    assert "layers 0 to 2" in capsys.readouterr().err


def test_variety_and_named_emotions():
    measured = variety(REPLIES)
    assert measured["words"] == pytest.approx((10 + 36 + 0 + 6 + 3 + 3) / 6)
    assert measured["different"] == pytest.approx(5 / 6)
    named = named_emotions(utterances())
    # Happy to help is read as happy; the last is labelled happy and called sad.
    assert named == pytest.approx({"replies": 6, "own": 2 / 6, "another": 2 / 6, "none": 2 / 6}, abs=1e-6)
    assert named_emotions([Utterance("1", "c", "a", response="sad")]) is None


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--split", "train"], "no responses in split train"),
        (["--empathy-classifier", "."], "no empathy classifier"),
        (["--against", "replies.jsonl"], "--empathy-classifier too"),
        (["--bert-score", "x"], "--references too"),
        (["--references", "replies.jsonl", "--bert-score", "./nowhere"], "cannot be loaded"),
        (["--references", "others.jsonl"], "ids have to agree"),
        (["--references", "nowhere.jsonl"], "no manifest"),
    ],
)
def test_bad_choices_are_one_line(manifest, capsys, monkeypatch, extra, reason):
    monkeypatch.chdir(manifest.parent)
    write_manifest("others.jsonl", [Utterance("9", "d", "a", response="x", split="test")])
    assert main(["evaluate-responses", str(manifest), *extra, "--out", "f.json"]) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (manifest.parent / "f.json").exists()


def test_replies_are_read_back(manifest):
    assert [u.response for u in read_manifest(manifest)] == list(REPLIES)
