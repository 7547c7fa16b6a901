import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import wilcoxon
from tokenizers import pre_tokenizers
from torchmetrics.functional.text import bert_score
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    BertTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load_empathy_classifier
from empathy_lightning.conversion import epitome
from empathy_lightning.data import write_manifest
from empathy_lightning.errors import InputError
from empathy_lightning.evaluation.reply_scores import Empathy, bert_scorer, compare, named_emotions, overlap, variety
from empathy_lightning.metrics import chrf
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
    assert main(["evaluate", "replies", str(manifest), "--out", str(out), *map(str, more)]) == 0
    return json.loads(out.read_text())


def test_levels_are_the_classifier_s_on_each_pair_alone(classifiers, manifest, tmp_path, capsys):
    figures = evaluate(manifest, tmp_path / "f.json", "--empathy_classifier", classifiers)
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
    alone = evaluate(manifest, tmp_path / "g.json", "--empathy_classifier", classifiers / "exploration")
    assert alone["empathy"] == {"exploration": figures["empathy"]["exploration"]}


def test_what_was_said_must_be_known(classifiers, tmp_path):
    rows = utterances()
    rows[0].transcript = None
    write_manifest(tmp_path / "m.jsonl", rows)
    figures = evaluate(tmp_path / "m.jsonl", tmp_path / "f.json", "--empathy_classifier", classifiers)
    assert figures["scores"][0]["exploration"] is None and figures["empathy"]["exploration"]["replies"] == 5
    assert Empathy([None], [False]).figures() == {"replies": 0}


def test_two_systems_are_compared_utterance_by_utterance(classifiers, manifest, tmp_path, capsys):
    others = utterances(("x", "y y y", "What?", "No. " * 9, "I see", "Ha"))[1:]
    write_manifest(tmp_path / "others.jsonl", reversed(others))
    options = ("--empathy_classifier", classifiers, "--against", tmp_path / "others.jsonl")
    figures = evaluate(manifest, tmp_path / "f.json", *options)
    theirs = evaluate(tmp_path / "others.jsonl", tmp_path / "o.json", "--empathy_classifier", classifiers)
    for name, compared in figures["against"].items():
        levels = {row["id"]: row[name] for row in figures["scores"]}
        differences = [levels[row["id"]] - row[name] for row in theirs["scores"]]
        assert compared["pairs"] == 5 and compared["difference"] == pytest.approx(sum(differences) / 5, abs=1e-6)
    assert "difference" in capsys.readouterr().out
    itself = evaluate(manifest, tmp_path / "f.json", *options[:3], manifest)
    assert all(c == {"pairs": 6, "difference": 0.0, "p": 1.0} for c in itself["against"].values())


OURS, THEIRS = [2, 2, 2, 1, 0, 2, 2, 1, 2, 2, 0, None], [0, 1, 1, 1, 1, 0, 1, 0, 1, 2, 2, 2]
"""Two ties among eleven pairs, and one pair that is not known whole."""


def signed_ranks(differences):
    """Differences that are not 0, each with the mean rank of its size."""
    sizes = sorted(abs(d) for d in differences if d)
    mean_rank = {size: sum(i + 1 for i, s in enumerate(sizes) if s == size) / sizes.count(size) for size in set(sizes)}
    return [(1 if d > 0 else -1, mean_rank[abs(d)]) for d in differences if d]


def test_few_pairs_are_tested_by_all_signs():
    differences = [a - b for a, b in zip(OURS[:-1], THEIRS[:-1], strict=True)]
    ranks = signed_ranks(differences)
    up = sum(rank for sign, rank in ranks if sign > 0)
    sums = [sum(rank for sign, (_, rank) in zip(signs, ranks, strict=True) if sign)
            for signs in itertools.product((0, 1), repeat=len(ranks))]  # fmt: skip
    tails = [sum(s >= up for s in sums), sum(s <= up for s in sums)]
    compared = compare(OURS, THEIRS)
    assert compared["pairs"] == 11 and compared["difference"] == pytest.approx(sum(differences) / 11, abs=1e-6)
    assert compared["p"] == pytest.approx(2 * min(tails) / len(sums), rel=1e-9) and 0.01 < compared["p"] < 0.5
    assert compare([2] * 6, [0] * 6)["p"] == pytest.approx(2 / 2**6)


def test_many_pairs_are_tested_by_the_normal_distribution():
    ours, theirs = OURS[:-1] * 6, THEIRS[:-1] * 6
    ranks = signed_ranks([a - b for a, b in zip(ours, theirs, strict=True)])
    down, n = sum(rank for sign, rank in ranks if sign < 0), len(ranks)
    ties = [[rank for _, rank in ranks].count(size) for size in {rank for _, rank in ranks}]
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48)
    expected = math.erfc(abs(down - n * (n + 1) / 4) / spread / math.sqrt(2))
    assert compare(ours, theirs)["p"] == pytest.approx(expected, rel=1e-9) == compare(theirs, ours)["p"]
    # Another way with ties, or one side alone, is another test.
    for wrong in ({"zero_method": "pratt"}, {"alternative": "greater"}, {"correction": True}):
        assert wilcoxon(ours, theirs, **wrong).pvalue != pytest.approx(expected, rel=1e-2)


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


def test_overlap_in_any_script():
    german = overlap(["Das Mädchen ist müde."], ["Das Mädchen ist nicht müde."])
    # 4 of 4 words, 4 of 5; pairs: 2 of 3, 2 of 4.
    assert german["rouge1"] == pytest.approx(8 / 9) == german["rougeL"]
    assert german["rouge2"] == pytest.approx(4 / 7)
    russian = overlap(["Мне очень жаль"], ["мне так жаль!"])
    assert russian["rouge1"] == pytest.approx(2 / 3) == russian["rougeL"] and russian["rouge2"] == 0
    assert overlap(["你好吗"], ["你好"])["rougeL"] == pytest.approx(4 / 5)


def test_chrf_is_that_of_characters_over_all_replies():
    replies, references = ["", "You sound sad."], ["I am so sorry to hear that", "You sound sad."]
    assert overlap(replies, references)["chrf"] == pytest.approx(chrf(replies, references))
    assert chrf(replies, references) < 0.5


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
        assert bert_scorer(encoder, layer, size)(replies, references) == pytest.approx(expected, abs=1e-5)


def test_long_texts_and_texts_without_a_token(encoder, tmp_path):
    """Encoders whose tokenizers name no longest text, and one that cleans U+200B away."""
    RobertaModel.from_pretrained(encoder).save_pretrained(tmp_path / "roberta")
    write_vocabulary(tmp_path / "roberta")
    RobertaTokenizer.from_pretrained(tmp_path / "roberta").save_pretrained(tmp_path / "roberta")
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=40,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "x", "y"]))
    BertTokenizerFast(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
    for name in ("roberta", "bert"):
        scores = bert_scorer(tmp_path / name)(["x " * 300, "x", "\u200b", "x"], ["x " * 300, "y x", "x", "\u200b"])
        assert scores[0] == pytest.approx(1, abs=1e-5) and scores[1] < 0.9999
        if name == "bert":
            assert scores[2:] == [0, 0]


def test_only_an_encoder_that_is_here_is_taken(encoder, tmp_path, monkeypatch):
    config = BartConfig(
        vocab_size=261, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    BartModel(config).save_pretrained(tmp_path / "bart")
    RobertaTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "bart")
    with pytest.raises(InputError, match="no encoder"):
        bert_scorer(tmp_path / "bart")
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *a, **k: pytest.fail("asked for elsewhere"))
    with pytest.raises(InputError, match="no folder at roberta-large"):
        bert_scorer(Path("roberta-large"))


def test_the_command_takes_the_encoder_s_folder(encoder, manifest, tmp_path, capsys):
    more = ("--references", manifest, "--bert_score", encoder)
    figures = evaluate(manifest, tmp_path / "f.json", *more)
    assert figures["overlap"]["bert_score"] == pytest.approx(5 / 6, abs=1e-4)
    assert figures["scores"][2]["bert_score"] == 0
    assert main(["evaluate", "replies", str(manifest), *map(str, more), "--bert_layer", "3"]) == 2
    assert "layers 0 to 2" in capsys.readouterr().err


def test_variety_and_named_emotions():
    measured = variety(REPLIES)
    assert measured["words"] == pytest.approx((10 + 36 + 0 + 6 + 3 + 3) / 6)
    assert measured["different"] == pytest.approx(5 / 6)
    named = named_emotions(utterances())
    # Happy to help is read as happy; the last is labelled happy and called sad.
    assert named == pytest.approx({"replies": 6, "own": 2 / 6, "another": 2 / 6, "none": 2 / 6}, abs=1e-6)
    assert named_emotions([Utterance("1", "c", "a", response="sad")]) is None
    others = [("sad", "You sound angry."), ("sad", "You sound bored."), ("bored", "You sound bored.")]
    named = named_emotions([Utterance("1", "c", "a", emotion=label, response=said) for label, said in others])
    # What no utterance of the manifest is labelled with is another emotion all the same.
    assert named == pytest.approx({"replies": 3, "own": 1 / 3, "another": 2 / 3, "none": 0}, abs=1e-6)
    assert named_emotions([Utterance("1", "c", "a", emotion="sad", response="You sound angry.")])["another"] == 1


def test_the_file_says_what_was_measured_and_how_many_have_no_partner(classifiers, manifest, tmp_path, capsys):
    write_manifest(tmp_path / "two.jsonl", utterances()[:2])
    options = ("--empathy_classifier", classifiers, "--against", tmp_path / "two.jsonl", "--references", manifest)
    figures = evaluate(manifest, tmp_path / "f.json", *options, "--split", "all")
    assert figures["of"] == {
        "replies": str(manifest), "references": str(manifest), "against": str(tmp_path / "two.jsonl"), "split": "all",
        "empathy_classifier": str(classifiers), "bert_score": None, "bert_layer": None, "asr": None,
        "asr_language": None,
    }  # fmt: skip
    assert figures["without_partner_in_against"] == 4 and figures["without_partner_in_references"] == 0
    printed = capsys.readouterr().out
    assert re.search(r"without partner in against +4\n", printed) and re.search(r"strong +truncated\n", printed)
    assert "without_partner_in_against" not in evaluate(manifest, tmp_path / "f.json", "--references", manifest)


def test_a_reply_that_is_not_utf_8_is_one_line(tmp_path, capsys):
    rows = utterances()
    rows[0].response = "m\udcfcde"
    write_manifest(tmp_path / "m.jsonl", rows)
    assert main(["evaluate", "replies", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "f.json")]) == 2
    assert "f.json cannot be written: 'utf-8' codec" in capsys.readouterr().err.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_everything_is_refused_before_the_measuring(classifiers, encoder, manifest, tmp_path, capsys, monkeypatch):
    for name in ("empathy", "overlap", "variety"):
        monkeypatch.setattr(f"empathy_lightning.evaluation.scoring.{name}", lambda *a, **k: pytest.fail("measured"))
    write_manifest(tmp_path / "twice.jsonl", utterances())
    lines = (tmp_path / "twice.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "twice.jsonl").write_text("".join([*lines, lines[2]]))
    silent = [replace(u, transcript=None) for u in utterances()]
    write_manifest(tmp_path / "silent.jsonl", silent)
    whole = manifest.read_text()
    empathy, references = ["--empathy_classifier", classifiers], ["--references", manifest]
    for reason, *words in (
        ("was there before", "--references", tmp_path / "twice.jsonl"),
        ("was there before", *empathy, "--against", tmp_path / "twice.jsonl"),
        ("no transcripts", *empathy, "--against", tmp_path / "silent.jsonl"),
        ("no folder at nowhere", *empathy, *references, "--bert_score", "nowhere"),
        ("layers 0 to 2", *empathy, *references, "--bert_score", encoder, "--bert_layer", 3),
        ("no empathy classifier", *references, "--empathy_classifier", tmp_path),
        ("is a folder", *references, "--out", tmp_path),
        ("is a file", "--out", manifest / "f.json"),
        ("which is read", "--out", manifest),
        ("which is read", "--references", tmp_path / "twice.jsonl", "--out", tmp_path / "twice.jsonl"),
    ):
        assert main(["evaluate", "replies", str(manifest), *map(str, words)]) == 2
        assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert manifest.read_text() == whole


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--split", "train"], "no responses in split train"),
        (["--empathy_classifier", "."], "no empathy classifier"),
        (["--against", "replies.jsonl"], "--empathy_classifier too, or --asr"),
        (["--bert_score", "x"], "--references too"),
        (["--references", "replies.jsonl", "--bert_score", "."], "cannot be loaded"),
        (["--references", "others.jsonl"], "ids have to agree"),
        (["--references", "nowhere.jsonl"], "no manifest"),
    ],
)
def test_bad_choices_are_one_line(manifest, capsys, monkeypatch, extra, reason):
    monkeypatch.chdir(manifest.parent)
    write_manifest("others.jsonl", [Utterance("9", "d", "a", response="x", split="test")])
    assert main(["evaluate", "replies", str(manifest), *extra, "--out", "f.json"]) == 2
    assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (manifest.parent / "f.json").exists()


def test_the_file_tells_one_model_from_another_in_the_same_place(classifiers, encoder, manifest, tmp_path):
    def _made_from(*more):
        options = ("--empathy_classifier", tmp_path / "epitome", "--bert_score", tmp_path / "bert")
        return evaluate(manifest, tmp_path / "f.json", *options, "--references", manifest, *more)["made_from"]

    shutil.copytree(classifiers, tmp_path / "epitome")
    shutil.copytree(encoder, tmp_path / "bert")
    first = _made_from()
    assert first == _made_from()
    assert _changed(first, _made_from("--split", "all")) == {"split"}
    assert _changed(first, _made_from("--bert_layer", "1")) == {"bert_layer"}
    shutil.rmtree(tmp_path / "epitome" / "exploration")
    assert _changed(first, _made_from()) == {"empathy_classifier"}
    (tmp_path / "bert" / "config.json").write_text((tmp_path / "bert" / "config.json").read_text() + " ")
    assert _changed(first, _made_from()) == {"empathy_classifier", "bert_score"}


def _changed(first, second):
    return {name for name in first if first[name] != second[name]}
