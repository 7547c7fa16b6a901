"""``evaluate paper``: the papers' tables at tiny size, every cell of ours from a real run of tiny models."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.audio import write
from empathy_lightning.checkpoints import save
from empathy_lightning.configurations import merged
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.paper_table import read_table
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.speech_adapter import SpeechAdapter
from empathy_lightning.modules.speech_decoder import SpeechDecoder
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.modules.unit_language_model import Qwen2Body
from empathy_lightning.modules.vocoder import NeuralVocoder
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.conftest import ROOT
from tests.evaluation.test_reply_speech import whisper  # noqa: F401 - a fixture
from tests.evaluation.test_scoring import classifiers  # noqa: F401 - a fixture
from tests.tiny import spoken, whole

TABLES = ROOT / "examples/tables"
STAND_INS = """
from empathy_lightning.evaluation.measured import Measured


class Judged:
    '''In the judge's place: a score of each reply that follows from its letters alone.'''

    needs = ()

    def __init__(self, criterion: str) -> None:
        self.name = f"judged_{criterion}"

    def __call__(self, replies):
        return Measured([{"score": 1 + sum(map(ord, u.response)) % 10} for u in replies], {})


class Match:
    '''In the place of exists_match.'''

    name = "exists_match"
    needs = ("references",)

    def __call__(self, replies):
        return Measured([{"correct_heard": int(len(u.response) % 2)} for u in replies], {})
"""


@pytest.fixture
def place(tmp_path, corpus, model, monkeypatch):
    """A working folder with tiny manifests, a bot, and measures that stand in for judges."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stand_ins.py").write_text(STAND_INS)
    rows = [replace(u, split="test", references=["yes"]) for u in read_manifest(corpus)[:4]]
    for number, u in enumerate(rows):
        u.corpus = f"set{number % 2}"
    write_manifest(tmp_path / "questions.jsonl", rows)
    save(tmp_path / "bot", spoken(model, list(EMOTIONS)))
    return tmp_path


def overlay(name, systems, measures, suites=None):
    """A YAML over a table: other systems and measures, and tiny manifests."""
    table = merged([TABLES / f"{name}.yaml"])
    content = {
        "suites": dict.fromkeys(suites or table["suites"], "questions.jsonl"),
        "systems": systems,
        "measures": measures,
    }
    with open("tiny.yaml", "w") as file:
        yaml.safe_dump(content, file)


def made(name, *more):
    """Rows of a table that was made, by figure, suite and whose they are."""
    words = ["evaluate", "paper", f"recipe:tables/{name}", "--out", "out", "--config", "tiny.yaml", "--format", "csv"]
    assert main([*words, "--max_new_tokens", "4", "--temperature", "1", *more]) == 0
    with open("out/table.csv") as file:
        return {(row["figure"], row["suite"], row[""]): row for row in csv.DictReader(file)}


def figure(system, suite, measure, name):
    return measures_of(system, suite)[measure]["figures"][name]


def measures_of(system, suite):
    return json.loads(Path(f"out/{system}/{suite}/metrics.json").read_text())["suites"][suite]["measures"]


def published_of(name):
    return read_table([TABLES / f"{name}.yaml"]).published


def check_published(rows, name):
    for (title, suite, system), text in published_of(name).items():
        assert rows[title, suite, "published"][system] == text


def test_re_llm_table_1(place, backbones, request, capsys):
    folder = request.getfixturevalue("classifiers")
    asr = request.getfixturevalue("whisper")
    for suite in ("iemocap", "esd", "msp_podcast"):
        shutil.copytree("bot", f"bots/{suite}")
    text = {"language_model": str(backbones / "language_model")}
    bot = {"checkpoint": "bots/{suite}"}
    systems = {
        "Text + LLM": text, "Whisper + LLM": {**text, "transcripts": str(asr)}, "Text + LLM + label": text,
        "BLSP-Emo": {"checkpoint": "bot"}, "BLSP-Emo fine-tuned": bot, "RE-LLM": bot, "without dimensional loss": bot,
        "without emotion encoder": bot,
    }  # fmt: skip
    measures = [
        {"class_path": "empathy", "init_args": {"folder": str(folder)}},
        {"class_path": "heard_emotion", "init_args": {"by": "options", "paper": "re_llm"}},
    ]
    overlay("re_llm_table1", systems, measures)
    rows = made("re_llm_table1")
    assert len(rows) == 2 * 9
    names = list(systems)
    for (title, _, whose), row in rows.items():
        if whose == "ours":
            # A model that only reads words recognises no emotion.
            expected = names if title != "UA" else names[3:]
            assert [name for name in names if row[name]] == expected and row["p"] == "1.000 (" + (
                "swapped answers)" if title == "UA" else "Wilcoxon)"
            )
    level = figure("re-llm", "esd", "empathy", "emotional_reaction")
    assert rows["ER", "esd", "ours"]["RE-LLM"] == f"{level['value']:.3f} ({level['deviation']:.3f})"
    accuracy = figure("blsp-emo", "iemocap", "heard_emotion", "unweighted_accuracy")
    assert rows["UA", "iemocap", "ours"]["BLSP-Emo"] == f"{accuracy:.3f}"
    check_published(rows, "re_llm_table1")
    # What the recogniser heard was answered, and what was said is measured.
    asked = {u.id: u.transcript for u in read_manifest("questions.jsonl")}
    heard = read_manifest("out/whisper_llm/esd/written.jsonl")
    answered = read_manifest("out/whisper_llm/esd/replies.jsonl")
    assert all(u.transcript != asked[u.id] for u in heard) and all(u.transcript == asked[u.id] for u in answered)
    assert [u.response for u in heard] == [u.response for u in answered]
    assert "arXiv 2602.10716" in capsys.readouterr().out


JUDGED = [
    {"class_path": "stand_ins.Judged", "init_args": {"criterion": f"freezeempath_{name}"}}
    for name in ("quality", "empathy", "acoustic")
]


def test_freezeempath_table_5_with_its_missing_row(place, model):
    systems = {name: {"checkpoint": "bot"} for name in merged([TABLES / "freezeempath_table5.yaml"])["systems"]}
    overlay("freezeempath_table5", systems, JUDGED[:2])
    rows = made("freezeempath_table5")
    ours = rows["empathy", "speech_alpaca", "ours"]
    assert all(ours[name] for name in systems) and ours["p"].endswith("(Wilcoxon)")
    assert rows["empathy", "speech_alpaca", "published"]["transcript, predicted label"] == ""
    check_published(rows, "freezeempath_table5")
    # Each row is asked with other slots: a reply to the predicted label is the one to that label if it were true.
    shards = "speech_alpaca/replies/speech_alpaca.jsonl.shards/made_from.json"
    for name, kind in (("predicted", "PredictedLabel"), ("true", "TrueLabel"), ("random", "RandomLabel")):
        filled = json.loads(Path(f"out/transcript_{name}_label", shards).read_text())
        assert filled["speech_slot"].endswith(".Transcript") and filled["emotion_slot"].endswith(f".{kind}")
    words = ["--checkpoint", "bot", "--manifest", "questions.jsonl", "--by", "classifier", "--out", "e.json"]
    assert main(["evaluate", "emotion", *words]) == 0
    answers = {a["id"]: a["recognised"] for a in json.loads(Path("e.json").read_text())["answers"]}
    asked = read_manifest("questions.jsonl")
    write_manifest("told.jsonl", [replace(u, emotion=answers[u.id], suite="speech_alpaca") for u in asked])
    words = ["--temperature", "1", "--max_new_tokens", "4", "--paper", "freezeempath"]
    words += ["--speech_slot", "Transcript", "--emotion_slot", "TrueLabel"]
    assert main(["evaluate", "run", "told.jsonl", "--checkpoint", "bot", "--out", "told", *words]) == 0
    lines = [json.loads(line)["reply"] for line in Path("told/predictions.jsonl").read_text().splitlines()]
    predicted = read_manifest("out/transcript_predicted_label/speech_alpaca/replies/speech_alpaca.jsonl")
    assert [u.response for u in predicted] == lines


def test_freezeempath_ablation(place):
    systems = {name: {"checkpoint": "bot"} for name in merged([TABLES / "freezeempath_ablation.yaml"])["systems"]}
    measures = [
        {"class_path": "heard_emotion", "init_args": {"by": "classifier"}, "suites": ["ser"]},
        {**JUDGED[1], "suites": ["speech_alpaca"]},
    ]
    overlay("freezeempath_ablation", systems, measures)
    rows = made("freezeempath_ablation")
    assert len(rows) == 4 and all(rows[key][name] for key in rows if key[2] == "ours" for name in systems)
    metrics = measures_of("full", "ser")
    assert set(metrics) == {"heard_emotion"}
    corpora = metrics["heard_emotion"]["groups"]["corpus"]
    mean = sum(of["weighted_accuracy"] for of in corpora.values()) / 2
    assert set(corpora) == {"set0", "set1"} and rows["SER", "ser", "ours"]["full"] == f"{mean:.3f}"
    check_published(rows, "freezeempath_ablation")


def test_freezeempath_main(place, model, request):
    asr = request.getfixturevalue("whisper")
    torch.manual_seed(1)
    decoder = SpeechDecoder(32, len(model.responder.language_model.tokenizer), 0, 64, Qwen2Body(32, 1, 2))
    decoder.model.get_input_embeddings().weight.data[0] *= 40  # so that replies end
    save(place / "talker", spoken(model, list(EMOTIONS), decoder.eval(), NeuralVocoder(64, 16, 1)))
    measures = [
        *({**judged, "suites": ["speech_alpaca"]} for judged in JUDGED),
        {
            "class_path": "word_errors",
            "init_args": {"asr": str(asr), "asr_language": "en"},
            "suites": ["speech_alpaca"],
        },
        {"class_path": "heard_emotion", "init_args": {"by": "classifier"}, "suites": ["ser"]},
        {"class_path": "stand_ins.Match", "suites": ["llama_questions", "trivia_qa", "web_questions"]},
    ]
    overlay("freezeempath_main", {"FreezeEmpath": {"checkpoint": "talker"}}, measures)
    rows = made("freezeempath_main")
    assert len(rows) == 2 * 8 and all(row["FreezeEmpath"] for row in rows.values())
    assert not any(row["OpenS2S"] for key, row in rows.items() if key[2] == "ours")
    rate = figure("freezeempath", "speech_alpaca", "word_errors", "word_error_rate")
    assert rows["WER", "speech_alpaca", "ours"]["FreezeEmpath"] == f"{rate['value']:.3f}"
    assert (place / "out/freezeempath/speech_alpaca/replies/speech_alpaca.jsonl.speech").is_dir()
    check_published(rows, "freezeempath_main")


def test_table_5_and_a_language_model_s_rows_with_the_real_models(place):
    models = os.environ.get("EMPATHY_BACKBONES")
    if not models:
        pytest.skip("no real backbones; set EMPATHY_BACKBONES to a folder of them")
    pytest.importorskip("espeakng_loader")
    from empathy_lightning.small_world.espeak import Prosody, render

    encoder = SpeechEncoder.from_pretrained(f"{models}/whisper-base")
    language_model = LanguageModel.from_pretrained(f"{models}/smollm2-135m-instruct")
    sizes = encoder.hidden_size, language_model.hidden_size
    nuance = EmotionNuance(*sizes, hidden_size=48, gate_size=8)
    save(place / "real", spoken(whole(encoder, SpeechAdapter(*sizes), language_model, nuance), list(EMOTIONS)))
    waveform, rate = render("I lost my keys in the garden.", "gmw/en-US", Prosody(), 0)
    write("said.wav", torch.from_numpy(waveform), rate)
    questions = [replace(u, path="said.wav", duration=None) for u in read_manifest("questions.jsonl")[:2]]
    write_manifest("questions.jsonl", questions)
    systems = {name: {"checkpoint": "real"} for name in merged([TABLES / "freezeempath_table5.yaml"])["systems"]}
    for name, words in (("text", {}), ("heard", {"transcripts": f"{models}/whisper-tiny.en"})):
        systems[name] = {"language_model": f"{models}/smollm2-135m-instruct", **words}
    overlay("freezeempath_table5", systems, JUDGED[:2])
    ours = made("freezeempath_table5")["empathy", "speech_alpaca", "ours"]
    assert all(ours[name] for name in systems)
    said = read_manifest("out/transcript_true_label/speech_alpaca/replies/speech_alpaca.jsonl")
    assert all(u.response for u in said)


def test_a_system_that_is_not_there_leaves_its_cells_empty(place, capsys):
    systems = {name: {"checkpoint": "bot"} for name in merged([TABLES / "freezeempath_table5.yaml"])["systems"]}
    overlay("freezeempath_table5", {**systems, "transcript, true label": {"checkpoint": "nowhere"}}, ["variety"])
    words = ["evaluate", "paper", "recipe:tables/freezeempath_table5", "--out", "out", "--config", "tiny.yaml"]
    words += ["--max_new_tokens", "4", "--only", "speech, emotion feature", "transcript, true label"]
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "missing: transcript, true label, speech_alpaca: nowhere is no checkpoint folder" in shown
    assert (place / "out/speech_emotion_feature/speech_alpaca/metrics.json").is_file()
    assert (place / "out/table.md").read_text() in shown and not (place / "out/transcript_random_label").exists()


def test_a_system_s_replies_are_measured_by_what_the_suite_expects(place, capsys):
    questions = read_manifest("questions.jsonl")
    write_manifest("theirs.jsonl", [Utterance(u.id, u.corpus, "none.wav", response="Yes.") for u in questions[1:]])
    name = "speech, emotion feature"
    systems = {system: {} for system in merged([TABLES / "freezeempath_table5.yaml"])["systems"]}
    overlay("freezeempath_table5", {**systems, name: {"replies": "theirs.jsonl", "checkpoint": None}}, ["exists_match"])
    words = ["evaluate", "paper", "recipe:tables/freezeempath_table5", "--out", "out", "--config", "tiny.yaml"]
    assert main([*words, "--only", name]) == 1
    assert "1 without a reply" in capsys.readouterr().out
    assert main([*words, "--only", name, "--allow_left_out", "0.3"]) == 0
    lines = (place / "out/speech_emotion_feature/speech_alpaca/predictions.jsonl").read_text().splitlines()
    said = [json.loads(line) for line in lines]
    assert [line["id"] for line in said] == [u.id for u in questions[1:]]
    assert all(line["references"] == ["yes"] and line["measures"]["exists_match"]["correct"] for line in said)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "red"}, "'colour' is not known there"),
        (
            {"systems": {"new": {"chekpoint": "bot"}}},
            "system new: 'chekpoint' is not known there; did you mean checkpoint?",
        ),
        ({"figures": [{"title": "q"}]}, "figures: missing 1 required positional argument: 'figure'"),
        ({"figures": [{"title": "q", "figure": "a/b", "suites": ["x"]}]}, "figure q: there is no 'x'"),
        ({"compared": ["full", "x"]}, "there is no 'full'"),
        ({"published": [{"figure": "empathy", "suite": "speech_alpaca", "values": {"me": 1}}]}, "there is no 'me'"),
        ({"measures": []}, "names no measures"),
    ],
)
def test_a_table_with_a_mistake_is_one_line(place, change, told, capsys):
    (place / "over.yaml").write_text(yaml.safe_dump(change))
    words = ["evaluate", "paper", "recipe:tables/freezeempath_table5", "--out", "out", "--config", "over.yaml"]
    assert main(words) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (place / "out").exists()
