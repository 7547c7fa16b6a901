"""What a YAML says once: the files it stands on, the run's folder, the sizes of the backbones."""

import json
from pathlib import Path

import pytest
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.configurations import merged


@pytest.fixture
def place(backbones, corpus, tmp_path, monkeypatch):
    """A working folder with a small recogniser, whose parts have bare names and whose sizes are the encoder's."""
    monkeypatch.chdir(tmp_path)
    listener = {
        "speech_encoder": {
            "class_path": "empathy_lightning.modules.speech_encoder.SpeechEncoder.from_pretrained",
            "init_args": {"name_or_path": "${backbones.speech_encoder}"},
        },
        "emotion_nuance": {
            "class_path": "EmotionNuance",
            "init_args": {"input_size": "${backbones.frame_size}", "output_size": 16, "hidden_size": 16},
        },
    }
    write(
        "models/recogniser.yaml",
        backbones={"speech_encoder": str(backbones / "speech_encoder")},
        trainer={"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "accelerator": "cpu"},
        data={"corpora": [{"class_path": "Manifest", "init_args": {"path": str(corpus)}}], "batch_seconds": 5},
        model={
            "class_path": "EmotionNuanceTask",
            "init_args": {
                "auxiliary_losses": {"categorical": "CategoricalLoss", "rating": {"class_path": "RatingLoss"}},
                "model": {"listener": listener},
            },
        },
    )
    write("run.yaml", base="models/recogniser.yaml", out="results/mine", save_every=1)
    return tmp_path


def write(name, **content):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(yaml.safe_dump(content, sort_keys=False))


def fit(*words):
    return main(["fit", "--config", "run.yaml", *words])


def parsed(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        fit(*words, "--print_config")
    assert stopped.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_out_says_where_everything_goes(place, capsys):
    assert fit() == 0
    assert {"config.json", "model.safetensors", "training.json"} == files_below(place / "results/mine")
    logs = files_below(place / "results/logs/mine")
    assert {"best.ckpt", "last.ckpt", "metrics.csv", "config.yaml"} <= logs
    shown = capsys.readouterr().out
    assert "folder       results/mine" in shown and "results/logs/mine/best.ckpt" in shown
    assert not (place / "lightning_logs").exists()
    # The saved configuration is whole, and is the run.
    saved = yaml.safe_load((place / "results/logs/mine/config.yaml").read_text())
    assert saved["out"] == "results/mine" and saved["backbones"]["frame_size"] == 32 and "base" not in saved
    again = ["fit", "--config", "results/logs/mine/config.yaml"]
    assert main(again) == 2 and "is of another run" in capsys.readouterr().err
    assert main([*again, "--out=results/other", "--monitor=null"]) == 0
    assert "best.ckpt" not in files_below(place / "results/logs/other")
    assert main(["test", "--config", "run.yaml", "--ckpt_path=last"]) == 0
    assert (place / "results/logs/mine/test/metrics.csv").is_file()


def test_what_the_trainer_is_given_or_refused_itself_stays(place):
    saver = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "own", "save_last": True}}
    assert fit(f"--trainer.callbacks={json.dumps([saver])}", "--trainer.logger=false") == 0
    assert "own/last.ckpt" in files_below(place) and (place / "results/mine/config.json").is_file()
    assert not (place / "results/logs").exists()
    assert fit("--out=results/bare", "--trainer.logger=false", "--trainer.enable_checkpointing=false") == 0
    assert not (place / "results/logs").exists()
    assert fit("--out=null", "--trainer.logger=false", "--trainer.enable_checkpointing=false") == 0
    assert files_below(place / "results") == {
        f"{run}/{name}" for run in ("mine", "bare") for name in ("config.json", "model.safetensors", "training.json")
    }


def test_a_file_overrides_what_it_stands_on(place, capsys):
    write("machine.yaml", trainer={"max_epochs": 7, "log_every_n_steps": 3}, data={"seed": 5})
    write("run.yaml", base=["models/recogniser.yaml", "machine.yaml"], data={"seed": 6})
    write("top.yaml", base="run.yaml", trainer={"max_epochs": 9})
    config = parsed(capsys, "--config=top.yaml")
    assert config["trainer"]["max_epochs"] == 9 and config["trainer"]["log_every_n_steps"] == 3
    assert config["data"]["seed"] == 6 and config["model"]["class_path"] == "empathy_lightning.tasks.EmotionNuanceTask"
    write("run.yaml", base="recipe:demo/emotion_recognition", out="elsewhere")
    config = parsed(capsys)
    assert config["out"] == "elsewhere" and config["trainer"]["max_epochs"] == 6


def test_a_file_that_several_stand_on_undoes_nothing(place, capsys):
    write("ground.yaml", base="models/recogniser.yaml", out="results/ground", trainer={"gradient_clip_val": 1.0})
    write("a.yaml", base="ground.yaml", out="results/a", save_every=3, trainer={"gradient_clip_val": 5.0})
    write("b.yaml", base="ground.yaml", trainer={"log_every_n_steps": 2})
    write("run.yaml", base=["a.yaml", "b.yaml"])
    for words in ([], ["--config=b.yaml"], ["--config", "a.yaml", "--config=b.yaml"]):
        config = parsed(capsys, *words)
        assert (config["out"], config["save_every"]) == ("results/a", 3)
        assert config["trainer"]["gradient_clip_val"] == 5.0 and config["trainer"]["log_every_n_steps"] == 2
    assert merged(["a.yaml", "b.yaml"])["out"] == "results/a"
    # A file that is named itself says its own again.
    assert parsed(capsys, "--config=ground.yaml")["out"] == "results/ground"


@pytest.mark.parametrize("nothing", [None, []])
def test_standing_on_nothing(place, capsys, nothing):
    write("run.yaml", base="models/recogniser.yaml", out="results/mine")
    write("top.yaml", base=nothing, save_every=7)
    assert parsed(capsys, "--config=top.yaml")["save_every"] == 7


def test_a_figure_that_no_validation_has_is_told_before_the_training(place, capsys):
    assert fit("--monitor=validation/categoricl_loss") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "monitor validation/categoricl_loss" in error and "mean validation/categorical_loss?" in error
    assert not list((place / "results").rglob("*.ckpt"))
    assert fit("--monitor=validation/categorical_loss", "--again") == 0


def test_sizes_come_from_the_models_unless_they_are_given(place, backbones, capsys):
    words = [f"--backbones.language_model={backbones / 'language_model'}"]
    sizes = parsed(capsys, *words)["backbones"]
    assert (sizes["frame_size"], sizes["embedding_size"], sizes["vocabulary_size"]) == (32, 32, 259)
    given = parsed(capsys, *words, "--backbones.frame_size=8")
    assert given["backbones"]["frame_size"] == 8
    nuance = given["model"]["init_args"]["model"]["init_args"]["listener"]["init_args"]["emotion_nuance"]
    assert nuance["init_args"]["input_size"] == 8


@pytest.mark.parametrize(
    ("content", "words", "reason"),
    [
        ({"base": "none.yaml"}, [], "run.yaml: no base at none.yaml"),
        ({"base": "run.yaml"}, [], "its base run.yaml stands on it in turn"),
        ({"base": "recipe:demo/speech_adaptor"}, [], "did you mean demo/speech_adapter?"),
        ({}, ["--config=recipe:re_llm/iemocp"], "no such recipe; did you mean re_llm/iemocap?"),
        ({"base": "models/recogniser.yaml"}, ["--backbones.speech_encoder=./nowhere"], "no model folder at ./nowhere"),
        ({"base": "models/recogniser.yaml", "out": "${outt}"}, [], "Interpolation key 'fit.outt' not found"),
        (
            {"base": "models/recogniser.yaml", "ouut": "x"},
            [],
            "run.yaml: ouut: there is no such key; did you mean out?",
        ),
        (
            {"base": "models/recogniser.yaml", "trainer": {"max_epoch": 1}},
            [],
            "run.yaml: trainer.max_epoch: there is no",
        ),
        ({"base": "models/recogniser.yaml", "out": "s3://bucket/run"}, [], "out s3://bucket/run: give a folder here"),
        ({"base": "models/recogniser.yaml"}, ["--base=run.yaml"], "base stands in a YAML"),
        ({"base": "recipe:ablations"}, [], "ablations.yaml is no configuration of a trainer"),
    ],
)
def test_a_fault_is_one_line(place, capsys, content, words, reason):
    write("run.yaml", **content)
    assert fit(*words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and reason in line


def test_a_recipe_is_shown_and_copied_with_its_script(place, capsys):
    assert main(["recipes", "copy", "custom_loss", "--out", "mine"]) == 0
    assert files_below(place / "mine") == {"custom_loss.yaml", "custom_loss.py"}
    assert main(["recipes", "show", "recipe:presets/fsdp"]) == 0
    assert "ShardedBackboneStrategy" in capsys.readouterr().out
    assert main(["recipes", "show", "blsp_emo/stage3"]) == 2
    assert "did you mean blsp_emo/stage" in capsys.readouterr().err
