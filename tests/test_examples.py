"""Every YAML under examples/ runs through the real command line, and every script does what it says."""

import shlex
import subprocess
import sys

import pytest
import torch

from empathy_lightning.__main__ import COMMANDS, application
from empathy_lightning.checkpoints import load
from empathy_lightning.configurations import merged, read_yaml
from empathy_lightning.preparation import speech_engines
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.corpora import cremad, nemo, ravdess
from tests.forked import fork
from tests.test_recipes import BLSP_EMO, FREEZEEMPATH, RE_LLM, REAL

FEW_STEPS = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--again=true",
]
STAGES = ("speech_adapter", "emotion_recognition", "emotion_nuance", "speech_decoder")


def run(folder, *words, **environment):
    result = fork(words, folder, **environment).wait(600)
    assert result.returncode == 0, result.stderr[-3_000:]
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder in small: its corpus prepared by the demo's own commands."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("demo")
    corpus = "outputs/demo/corpus"
    language_model = ["--language_model", "small-world/language_model"]
    run(folder, "demo", "corpus", "--out", corpus, "--train=20", "--validation=5", "--test=5")
    manifest = f"{corpus}/manifest.jsonl"
    run(
        folder, "prepare", "responses", manifest, "--out", f"{corpus}/plain.jsonl", "--without_emotion", *language_model
    )
    run(folder, "prepare", "responses", manifest, "--out", f"{corpus}/labelled.jsonl", *language_model)
    run(folder, "prepare", "speech", f"{corpus}/labelled.jsonl", "--out", f"{corpus}/spoken.jsonl")
    run(
        folder, "prepare", "units", f"{corpus}/spoken.jsonl", "--out", f"{corpus}/units.jsonl",
        "--quantizer", "small-world/quantizer",
    )  # fmt: skip
    return folder


def test_every_yaml_is_tested():
    names = {path.relative_to(ROOT / "examples").as_posix() for path in (ROOT / "examples").rglob("*.yaml")}
    here = {f"demo/{stage}.yaml" for stage in STAGES} | {"ravdess.yaml", "ravdess_whisper.yaml", "real/feelings.yaml"}
    here |= {"custom_loss.yaml", "ablations.yaml", "epitome.yaml"}
    voices = {"vocoder.yaml", "demo/vocoder.yaml", "demo/vocoder_adversarial.yaml"}  # tests/test_own_voice.py
    recipes = {f"freezeempath/{stage}.yaml" for stage in FREEZEEMPATH} | {f"{name}.yaml" for name in RE_LLM + BLSP_EMO}
    bases = {f"{family}/base.yaml" for family in ("demo", "freezeempath", "blsp_emo", "re_llm", "real")}
    real = {f"{name}.yaml" for name in REAL} | {"real/instructions.yaml", "real/users.yaml"}
    assert {
        name for name in names if not name.startswith(("presets/", "speech/", "tables/"))
    } == here | voices | recipes | bases | real


def commands_in(file):
    """The commands in a YAML's comments, as their words."""
    lines = [line.removeprefix("#").strip() for line in file.read_text().splitlines() if line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in whole if line.startswith("empathy-lightning ")]


def option(words, name):
    return words[words.index(name) + 1] if name in words else None


def manifests_of(recipe):
    """Paths of all manifests that a recipe reads."""
    corpora = list(recipe["data"].get("corpora", []))
    for mixed in recipe["data"].get("mixed_in", []):
        corpora += mixed["corpora"]
    return {corpus["init_args"]["path"] for corpus in corpora if corpus["class_path"] == "Manifest"}


@pytest.mark.parametrize("name", [*(f"freezeempath/{stage}" for stage in FREEZEEMPATH), *RE_LLM, *BLSP_EMO, *REAL])
def test_every_manifest_of_a_recipe_has_the_command_that_makes_it(name):
    files = sorted((ROOT / "examples").rglob("*.yaml"))
    made_anywhere = {option(words, "--out") for file in files for words in commands_in(file)}
    commands = commands_in(ROOT / f"examples/{name}.yaml")
    made = {option(words, "--out") for words in commands if words[0] in ("prepare", "corpora")}
    recipe = merged([ROOT / f"examples/{name}.yaml"])
    assert manifests_of(recipe) <= made
    for words in commands:
        assert " ".join(words[:2]) in COMMANDS or words[0] in COMMANDS
        if words[0] in ("prepare", "corpora"):
            # The options are there, and what a step reads is made by another one.
            application().parse_args(words, print_error=False, exit_on_error=False)
            read = [word for word in (words[2], option(words, "--recordings")) if word and word.endswith("l")]
            assert set(read) <= made_anywhere, read


def test_a_loss_from_outside_joins_by_one_override(demo):
    contrast = "--model.auxiliary_losses.contrast=custom_loss.EmbeddingContrast"
    for stage in ("speech_adapter", "emotion_recognition"):
        run(demo, "fit", "--config", str(ROOT / f"examples/demo/{stage}.yaml"), *FEW_STEPS)
    shown = run(
        demo, "fit", "--config", str(ROOT / "examples/demo/emotion_nuance.yaml"), *FEW_STEPS, contrast,
        PYTHONPATH=str(ROOT / "examples"),
    )  # fmt: skip
    columns = (demo / "outputs/demo/logs/emotion_nuance/metrics.csv").read_text().splitlines()[0]
    assert "contrast" in shown + columns and "validation/contrast_loss" in columns
    assert "validation/categorical_loss" in columns


@pytest.mark.parametrize("name", ["espeak", "piper", "program", "recorded"])
def test_every_table_of_tones_names_styles_that_its_engine_has(name):
    content = read_yaml(ROOT / f"examples/speech/{name}.yaml")
    styles = set(content["engine"]["init_args"]["styles"])
    answers = content.get("answers", {})
    assert {*answers.values(), content["otherwise"]} <= styles
    assert not answers or set(answers) == set(EMOTIONS)
    assert hasattr(speech_engines, content["engine"]["class_path"])


def test_ravdess_yaml(tmp_path):
    root = ravdess.write(tmp_path / "fake")
    config = ["--config", str(ROOT / "examples/ravdess.yaml"), f"--data.corpora.root={root}"]
    run(tmp_path, "fit", *config, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1")
    shown = run(tmp_path, "test", *config, "--ckpt_path=last")
    assert "test/unweighted_accuracy" in shown
    assert load(tmp_path / "outputs/ravdess/recogniser").emotions[1] == "calm"


def test_ravdess_whisper_yaml(tmp_path, backbones):
    """With an encoder of random weights, and speakers who are known."""
    root = ravdess.write(tmp_path / "fake")
    config = ["--config", str(ROOT / "examples/ravdess_whisper.yaml"), f"--data.corpora.root={root}"]
    config += [f"--backbones.speech_encoder={backbones / 'speech_encoder'}", "--trainer.callbacks+=SpeakerEnrolment"]
    run(tmp_path, "fit", *config, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1")
    shown = run(tmp_path, "test", *config, "--ckpt_path=last")
    assert "test/unweighted_accuracy" in shown
    assert list((tmp_path / "outputs/ravdess_whisper/encoded").rglob("*.safetensors"))
    assert load(tmp_path / "outputs/ravdess_whisper/recogniser").emotions[1] == "calm"


def test_feelings_yaml(tmp_path, backbones):
    """Several corpora together, an encoder of random weights; each has its own speakers for validation and test."""
    for corpus in (ravdess, nemo, cremad):
        corpus.write(tmp_path / "data" / corpus.__name__.rpartition(".")[2])
    config = ["--config", str(ROOT / "examples/real/feelings.yaml"), "--data.allow_empty_classes=true"]
    config += [f"--backbones.speech_encoder={backbones / 'speech_encoder'}", "--data.max_left_out=1"]
    run(tmp_path, "fit", *config, "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1")
    assert "test/unweighted_accuracy" in run(tmp_path, "test", *config, "--ckpt_path=last")
    assert load(tmp_path / "outputs/feelings/recogniser").emotions[1] == "calm"


def test_reuse_modules_script():
    result = subprocess.run([sys.executable, ROOT / "examples/reuse_modules.py"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "emotion embedding (2, 192)" in result.stdout


def test_the_contrastive_example_is_the_formula(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from custom_loss import EmbeddingContrast

    embedding = torch.randn(5, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 0, -100, 0])
    output = type("Output", (), {"emotion": type("Emotion", (), {"embedding": embedding})})
    loss = EmbeddingContrast(0.5)(output, type("Batch", (), {"emotion": labels}))
    unit = embedding / embedding.norm(dim=1, keepdim=True)
    total = 0.0
    for i in (0, 2, 4):
        others = torch.stack([(unit[i] @ unit[j] / 0.5).exp() for j in range(5) if j != i]).sum()
        pairs = [-((unit[i] @ unit[j] / 0.5).exp() / others).log() for j in (0, 2, 4) if j != i]
        total = total + sum(pairs) / len(pairs)
    torch.testing.assert_close(loss, total / 3)
    alone = EmbeddingContrast()(output, type("Batch", (), {"emotion": torch.arange(5)}))
    assert alone.item() == 0 and alone.requires_grad
