import itertools
import json
import math
import shutil

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
from empathy_lightning.evaluation.measures.bert_score import BertScore
from empathy_lightning.evaluation.measures.overlap import overlap
from empathy_lightning.evaluation.statistics import signed_rank
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


def command(out, *measures, replies, questions=(), more=()):
    return ["evaluate", "run", *map(str, questions), "--replies", str(replies), *more, "--out", str(out),
            "--measures", *map(str, measures)]  # fmt: skip


def evaluate(out, *measures, **files):
    """Rows and figures by measure."""
    assert main(command(out, *measures, **files)) == 0
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    (suite,) = json.loads((out / "metrics.json").read_text())["suites"].values()
    return {name: ([line["measures"][name] for line in lines], held["figures"])
            for name, held in suite["measures"].items()}  # fmt: skip


def test_levels_are_the_classifier_s_on_each_pair_alone(classifiers, manifest, tmp_path, capsys):
    rows, figures = evaluate(tmp_path / "f", "empathy", f"folder={classifiers}", replies=manifest)["empathy"]
    for name in ("emotional_reaction", "exploration"):
        classifier = load_empathy_classifier(classifiers / name)
        levels = [
            int(classifier.estimate([said], [reply]).logits.argmax()) if reply else 0
            for said, reply in zip(SAID, REPLIES, strict=True)
        ]
        assert [row[name] for row in rows] == levels and len(set(levels)) > 1
        mean = sum(levels) / 6
        assert figures[name]["value"] == pytest.approx(mean, abs=1e-6)
        assert figures[name]["deviation"] == pytest.approx(
            math.sqrt(sum((level - mean) ** 2 for level in levels) / 6), abs=1e-6
        )
        shares = [figures[f"{name}_{key}"] for key in ("none", "weak", "strong")]
        assert shares == pytest.approx([levels.count(level) / 6 for level in range(3)], abs=1e-6)
    assert figures["truncated"]["value"] == pytest.approx(1 / 6, abs=1e-6)
    assert [row["truncated"] for row in rows] == [False, True, False, False, False, False]
    assert f"| emotional reaction | {figures['emotional_reaction']['value']:.3f} [" in capsys.readouterr().out
    alone = evaluate(tmp_path / "g", "empathy", f"folder={classifiers / 'exploration'}", replies=manifest)["empathy"]
    assert alone[1]["exploration"] == figures["exploration"] and "emotional_reaction" not in alone[1]


def test_what_was_said_must_be_known(classifiers, tmp_path):
    rows = utterances()
    rows[0].transcript = None
    write_manifest(tmp_path / "m.jsonl", rows)
    found, figures = evaluate(tmp_path / "f", "empathy", f"folder={classifiers}", replies=tmp_path / "m.jsonl")[
        "empathy"
    ]
    assert found[0] is None and figures["exploration"]["replies"] == 5 and figures["without_transcript"] == 1


def test_two_systems_are_compared_utterance_by_utterance(classifiers, manifest, tmp_path):
    others = utterances(("x", "y y y", "What?", "No. " * 9, "I see", "Ha"))
    (tmp_path / "others").mkdir()
    write_manifest(tmp_path / "others/replies.jsonl", reversed(others))
    levels = []
    for out, file in (("a", manifest), ("b", tmp_path / "others/replies.jsonl")):
        rows, _ = evaluate(tmp_path / out, "empathy", f"folder={classifiers}", replies=file)["empathy"]
        levels.append(rows if out == "a" else rows[::-1])
    folders = [str(tmp_path / name) for name in ("a", "b")]
    assert main(["evaluate", "compare", *folders, "--test=wilcoxon", "--out", str(tmp_path / "c.json")]) == 0
    compared = {row["figure"]: row for row in json.loads((tmp_path / "c.json").read_text())}
    for name in ("emotional_reaction", "exploration"):
        own, theirs = ([row[name] for row in of] for of in levels)
        assert compared[name]["pairs"] == 6 and compared[name]["test"] == "Wilcoxon"
        assert compared[name]["difference"] == pytest.approx((sum(own) - sum(theirs)) / 6, abs=1e-6)
        assert compared[name]["p"] == pytest.approx(signed_rank(own, theirs))


OURS, THEIRS = [2, 2, 2, 1, 0, 2, 2, 1, 2, 2, 0], [0, 1, 1, 1, 1, 0, 1, 0, 1, 2, 2]
"""Two ties among eleven pairs."""


def signed_ranks(differences):
    """Differences that are not 0, each with the mean rank of its size."""
    sizes = sorted(abs(d) for d in differences if d)
    mean_rank = {size: sum(i + 1 for i, s in enumerate(sizes) if s == size) / sizes.count(size) for size in set(sizes)}
    return [(1 if d > 0 else -1, mean_rank[abs(d)]) for d in differences if d]


def test_few_pairs_are_tested_by_all_signs():
    differences = [a - b for a, b in zip(OURS, THEIRS, strict=True)]
    ranks = signed_ranks(differences)
    up = sum(rank for sign, rank in ranks if sign > 0)
    sums = [sum(rank for sign, (_, rank) in zip(signs, ranks, strict=True) if sign)
            for signs in itertools.product((0, 1), repeat=len(ranks))]  # fmt: skip
    tails = [sum(s >= up for s in sums), sum(s <= up for s in sums)]
    p = signed_rank(OURS, THEIRS)
    assert p == pytest.approx(2 * min(tails) / len(sums), rel=1e-9) and 0.01 < p < 0.5
    assert signed_rank([2] * 6, [0] * 6) == pytest.approx(2 / 2**6)


def test_many_pairs_are_tested_by_the_normal_distribution():
    ours, theirs = OURS * 6, THEIRS * 6
    ranks = signed_ranks([a - b for a, b in zip(ours, theirs, strict=True)])
    down, n = sum(rank for sign, rank in ranks if sign < 0), len(ranks)
    ties = [[rank for _, rank in ranks].count(size) for size in {rank for _, rank in ranks}]
    spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24 - sum(t**3 - t for t in ties) / 48)
    expected = math.erfc(abs(down - n * (n + 1) / 4) / spread / math.sqrt(2))
    assert signed_rank(ours, theirs) == pytest.approx(expected, rel=1e-9) == signed_rank(theirs, ours)
    # Another way with ties, or one side alone, is another test.
    for wrong in ({"zero_method": "pratt"}, {"alternative": "greater"}, {"correction": True}):
        assert wilcoxon(ours, theirs, **wrong).pvalue != pytest.approx(expected, rel=1e-2)


def test_overlap_against_expected_responses(manifest, tmp_path, capsys):
    one = utterances()[4:5]
    write_manifest(tmp_path / "one.jsonl", one)
    one[0].response = "You sound very sad."
    write_manifest(tmp_path / "other.jsonl", one)
    files = {"questions": [manifest], "replies": tmp_path / "one.jsonl"}
    assert main(command(tmp_path / "a", "overlap", **files)) == 2
    assert "5 without a reply" in capsys.readouterr().err
    _, figures = evaluate(tmp_path / "a", "overlap", **files, more=["--allow_left_out", "0.9"])["overlap"]
    assert figures["rouge1"] == figures["chrf"] == 1 and figures["chrf_of_reply"]["replies"] == 1
    assert "5 of 6 questions have no reply and are left out" in capsys.readouterr().out
    _, figures = evaluate(tmp_path / "b", "overlap", questions=[tmp_path / "other.jsonl"], replies=manifest)["overlap"]
    # You sound sad / You sound very sad: precision 1, recall 3/4; one of two pairs of words, of three.
    assert figures["rouge1"] == pytest.approx(6 / 7, abs=1e-6) and figures["chrf_of_reply"]["replies"] == 1
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
        assert BertScore(str(encoder), layer, size).scores(replies, references) == pytest.approx(expected, abs=1e-5)


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
        texts = ["x " * 300, "x", "\u200b", "x"], ["x " * 300, "y x", "x", "\u200b"]
        scores = BertScore(str(tmp_path / name)).scores(*texts)
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
        BertScore(str(tmp_path / "bart"))
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *a, **k: pytest.fail("asked for elsewhere"))
    with pytest.raises(InputError, match="no folder at roberta-large"):
        BertScore("roberta-large")


def test_the_command_takes_the_encoder_s_folder(encoder, manifest, tmp_path, capsys):
    words = ("bert_score", f"folder={encoder}")
    rows, figures = evaluate(tmp_path / "f", *words, questions=[manifest], replies=manifest)["bert_score"]
    # The one without a word is expected by none.
    assert figures["bert_score"]["value"] == pytest.approx(1, abs=1e-4) and rows[2] is None
    for more, told in ((("layer=3",), "layers 0 to 2"), (("folder=nowhere",), "no folder at nowhere")):
        assert main(command(tmp_path / "g", *words, *more, questions=[manifest], replies=manifest)) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_variety_and_named_emotions(manifest, tmp_path):
    found = evaluate(tmp_path / "f", "variety", "named_emotions", replies=manifest)
    assert found["variety"][1]["words"]["value"] == pytest.approx((10 + 36 + 0 + 6 + 3 + 3) / 6, abs=1e-6)
    assert found["variety"][1]["different"] == pytest.approx(5 / 6, abs=1e-6)
    assert found["variety"][1]["wordless"] == pytest.approx(1 / 6, abs=1e-6)
    # Happy to help is read as happy; the last is labelled happy and called sad.
    assert shares(found["named_emotions"]) == pytest.approx([2 / 6, 2 / 6, 2 / 6], abs=1e-6)
    others = [("sad", "You sound angry."), ("sad", "You sound bored."), ("bored", "You sound bored.")]
    rows = [Utterance(str(n), "c", "a", emotion=label, response=said, split="test")
            for n, (label, said) in enumerate(others)]  # fmt: skip
    write_manifest(tmp_path / "others.jsonl", rows)
    found = evaluate(tmp_path / "g", "named_emotions", replies=tmp_path / "others.jsonl")
    # What no utterance of the manifest is labelled with is another emotion all the same.
    assert shares(found["named_emotions"]) == pytest.approx([1 / 3, 2 / 3, 0], abs=1e-6)


def shares(found):
    return [found[1][name]["value"] for name in ("own", "another", "none")]


def test_a_reply_that_is_not_utf_8_is_one_line(tmp_path, capsys):
    rows = utterances()
    rows[0].response = "m\udcfcde"
    write_manifest(tmp_path / "m.jsonl", rows)
    assert main(command(tmp_path / "f", "variety", replies=tmp_path / "m.jsonl")) == 2
    assert "predictions.jsonl cannot be written: 'utf-8' codec" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "f/metrics.json").exists() and not list(tmp_path.rglob("*.partial"))


def test_another_model_in_the_same_place_measures_anew(classifiers, encoder, manifest, tmp_path):
    def _made_from(*more):
        words = ("empathy", f"empathy.folder={tmp_path / 'epitome'}", "bert_score", f"bert_score.folder={place}")
        evaluate(tmp_path / "f", *words, *more, questions=[manifest], replies=manifest)
        (suite,) = json.loads((tmp_path / "f/metrics.json").read_text())["suites"].values()
        return {name: held["made_from"] for name, held in suite["measures"].items()}

    place = tmp_path / "bert"
    shutil.copytree(classifiers, tmp_path / "epitome")
    shutil.copytree(encoder, place)
    first = _made_from()
    assert first == _made_from() and _changed(first, _made_from("bert_score.layer=1")) == {"bert_score"}
    shutil.rmtree(tmp_path / "epitome" / "exploration")
    assert _changed(first, _made_from()) == {"empathy"}
    (place / "config.json").write_text((place / "config.json").read_text() + " ")
    assert _changed(first, _made_from()) == {"empathy", "bert_score"}


def _changed(first, second):
    return {name for name in first if first[name] != second[name]}
