"""A list of variants runs through the real command line; what is done is not done again."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.evaluation.ablations import Ablation, read_ablations, run_ablations, table
from tests.forked import fork


@pytest.fixture
def listed(backbones, corpus, tmp_path):
    """A recogniser on the tiny corpus, with both losses and without the dimensional one."""
    nuance = {"input_size": 32, "output_size": 16, "hidden_size": 16, "gate_size": 8}
    trainer = {
        "trainer": {"max_epochs": 1, "limit_train_batches": 2, "callbacks": [{
            "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
            "init_args": {"dirpath": "nowhere", "monitor": "validation/loss"},
        }]},
        "data": {
            "corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": "elsewhere.jsonl"}}],
            "batch_seconds": 5,
        },
        "model": {"class_path": "empathy_lightning.tasks.EmotionNuanceTask", "init_args": {
            "auxiliary_losses": {
                "categorical": {"class_path": "empathy_lightning.losses.CategoricalLoss"},
                "rating": {"class_path": "empathy_lightning.losses.RatingLoss"},
            },
            "model": {"listener": {
                "speech_encoder": {
                    "class_path": "empathy_lightning.modules.speech_encoder.SpeechEncoder.from_pretrained",
                    "init_args": {"name_or_path": str(backbones / "speech_encoder")},
                },
                "emotion_nuance": {
                    "class_path": "empathy_lightning.modules.emotion_nuance.EmotionNuance", "init_args": nuance,
                },
            }},
        }},
    }  # fmt: skip
    paths = {
        "data": {"corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": str(corpus)}}]}
    }
    entries = [
        {"name": "full", "config": "trainer.yaml"},
        {"name": "without_rating", "config": "trainer.yaml", "overrides": {"model.loss_weights.rating": 0.0}},
    ]
    for name, content in (("trainer", trainer), ("paths", paths), ("list", entries)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_two_variants_run_and_are_not_run_again(listed, monkeypatch, capsys):
    monkeypatch.chdir(listed)
    words = ["ablate", "list.yaml", "--out", "out", "--config", "paths.yaml"]
    assert main(words) == 0, (listed / "out/full/output.txt").read_text()[-3_000:]
    shown = capsys.readouterr().out
    figures = json.loads((listed / "out/ablations.json").read_text())
    assert list(figures) == ["full", "without_rating"] and "[2/2] without_rating: done" in shown
    assert all("test/unweighted_accuracy" in row and "test/rating_loss" in row for row in figures.values())
    assert figures["full"]["test/rating_loss"] < figures["without_rating"]["test/rating_loss"]
    # The weight of the loss is 0 in one of them only.
    parts = {name: row["test/categorical_loss"] for name, row in figures.items()}
    assert figures["without_rating"]["test/loss"] == pytest.approx(parts["without_rating"], rel=1e-5)
    assert figures["full"]["test/loss"] == pytest.approx(parts["full"] + figures["full"]["test/rating_loss"], rel=1e-5)
    assert (listed / "out/ablations.md").read_text() in shown and not (listed / "nowhere").exists()

    monkeypatch.setattr("empathy_lightning.evaluation.ablations._process", lambda *_: pytest.fail("it ran again"))
    assert main(words) == 0
    assert "[1/2] full: done before" in capsys.readouterr().out
    assert json.loads((listed / "out/ablations.json").read_text()) == figures
    (listed / "list.yaml").write_text((listed / "list.yaml").read_text().replace("rating: 0.0", "rating: 0.5"))
    assert main(words) == 2
    assert "another variant of that name" in capsys.readouterr().err


def test_several_seeds_give_means_and_deviations(listed, monkeypatch, capsys):
    monkeypatch.chdir(listed)
    monkeypatch.setattr("empathy_lightning.evaluation.ablations._process", forked)
    words = ["ablate", "list.yaml", "--out", "out", "--config", "paths.yaml", "--only", "full", "--seeds", "1", "2"]
    assert main(words) == 0, (listed / "out/seed1/full/output.txt").read_text()[-3_000:]
    shown = capsys.readouterr().out
    each = [json.loads((listed / f"out/seed{seed}/full/metrics.json").read_text()) for seed in (1, 2)]
    assert each[0]["test/loss"] != each[1]["test/loss"]
    figures = json.loads((listed / "out/ablations.json").read_text())["full"]
    for key in ("test/loss", "test/weighted_accuracy"):
        one, other = each[0][key], each[1][key]
        assert figures[key] == pytest.approx(
            {"mean": (one + other) / 2, "deviation": abs(one - other) / 2**0.5, "seeds": 2}
        )
    loss = figures["test/loss"]
    assert f"| {loss['mean']:.4f} ± {loss['deviation']:.4f} |" in shown and "| full | 2 |" in shown
    assert main([*words[:-1], "1"]) == 2
    assert "each seed once" in capsys.readouterr().err


def forked(words, folder, lock):
    """Run a trainer's command as it is run, but for the imports."""
    trainer = fork(words).wait()
    (folder / "output.txt").write_text(trainer.stdout + trainer.stderr)
    return trainer.returncode == 0


def pretend(monkeypatch, fails=()):
    """Processes that only leave a checkpoint behind."""
    calls = []

    def _process(words, folder, lock):
        calls.append((words[0], folder.name, words[1:]))
        if words[0] == "fit":
            (folder / "logs/weights").mkdir(parents=True, exist_ok=True)
            (folder / "logs/weights/last.ckpt").touch()
        return folder.name not in fails

    monkeypatch.setattr("empathy_lightning.evaluation.ablations._process", _process)
    monkeypatch.setattr("empathy_lightning.evaluation.ablations._test_figures", lambda _: {"test/loss": 0.5})
    return calls


def test_a_failed_variant_is_told_does_not_stop_the_others_and_is_resumed(listed, monkeypatch, capsys):
    words = ["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")]
    calls = pretend(monkeypatch, fails=["full"])
    assert main(words) == 1
    assert [call[:2] for call in calls] == [("fit", "full"), ("fit", "without_rating"), ("test", "without_rating")]
    shown = capsys.readouterr().out
    assert "full: failed, see" in shown and "| without_rating | 0.5000 |" in shown
    calls = pretend(monkeypatch)
    assert main(words) == 0
    assert [call[:2] for call in calls] == [("fit", "full"), ("test", "full")]
    assert f"--ckpt_path={listed / 'out/full/logs/weights/last.ckpt'}" in calls[0][2]


def test_weights_of_another_variant_or_the_first_ones_can_be_tested(listed, monkeypatch, capsys):
    more = "- {name: labels, config: trainer.yaml, weights: full, overrides: {data.seed: 1, x: '{out}/full'}}\n"
    more += "- {name: untrained, config: trainer.yaml, weights: initial}\n"
    (listed / "list.yaml").write_text((listed / "list.yaml").read_text() + more)
    calls = pretend(monkeypatch)
    words = ["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")]
    # One that cannot run costs itself, and the table says so.
    assert main([*words, "--only", "labels"]) == 1
    assert "failed" in capsys.readouterr().out and "labels" in (listed / "out" / "ablations.md").read_text()
    assert "run that variant first" in (listed / "out" / "labels" / "output.txt").read_text()
    (listed / "out/full/logs/weights").mkdir(parents=True)
    (listed / "out/full/logs/weights/best.ckpt").touch()
    assert main([*words, "--only", "labels"]) == 1, "it was not trained to its end"
    capsys.readouterr()
    assert main(words) == 0
    last = [(command, name, rest) for command, name, rest in calls if name in ("labels", "untrained")]
    assert [call[:2] for call in last] == [("test", "labels"), ("test", "untrained")]
    assert f"--ckpt_path={listed / 'out/full/logs/weights/best.ckpt'}" in last[0][2]
    assert "--data.seed=1" in last[0][2] and f"--x={listed / 'out/full'}" in last[0][2]
    assert not any(word.startswith("--ckpt_path") for word in last[1][2])


def test_a_trainer_that_outlived_its_command_is_waited_for(listed, monkeypatch, capsys):
    calls = pretend(monkeypatch)
    folder = listed / "out/full"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        script = "import pathlib, sys, time; time.sleep(1); pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
        words = [sys.executable, "-c", script, str(folder / "metrics.json"), json.dumps({"test/loss": 0.25})]
        trainer = subprocess.Popen(words, pass_fds=[file.fileno()])
    figures = run_ablations(read_ablations(listed / "list.yaml")[:1], listed / "out")
    assert trainer.wait() == 0 and figures == {"full": {"test/loss": 0.25}} and not calls
    assert "waiting for a trainer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "expected a list"), ("- {name: a}", "entry 1: needs name and config"),
        ("- {name: a, config: no.yaml}", "no configuration at"), ("- [", "no YAML"),
        ("- {name: a, config: trainer.yaml, seed: 1}", "entry 1"), ("- {name: a/b, config: trainer.yaml}", "fit for"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused(listed, text, reason, capsys):
    (listed / "list.yaml").write_text(text)
    assert main(["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")]) == 2
    assert reason in capsys.readouterr().err and not (listed / "out").exists()


def test_texts_reach_the_command_line_as_they_are():
    values = {"a": "transcript", "c": 0.0, "e": "{out}/x", "f": ["y", "{out}/z"]}
    assert Ablation("n", [], values).words(Path("/o")) == ["--a=transcript", "--c=0.0", "--e=/o/x", '--f=["y", "/o/z"]']
    for name, value in (("emotion_encoder", None), ("prompt", "Continue: {speech}"), ("system", "1")):
        (word,) = Ablation("n", [], {f"model.model.responder.{name}": value}).words(Path("/o"))
        assert json.loads(word.removeprefix("--model.model=")) == {"responder": {name: value}}


def test_every_override_of_the_papers_ablations_is_accepted(backbones, capsys):
    """The configurations are parsed as they would be run, with tiny models that have sizes."""
    names = ("speech_encoder", "language_model")
    tiny = [f"--backbones.{name}={backbones / name}" for name in names] + ["--backbones.emotion_size=32"]
    ablations = read_ablations(Path("recipe:ablations"))
    assert len(ablations) == 19
    seen = set()
    for ablation in ablations:
        if not ablation.overrides or seen >= set(ablation.overrides):
            continue
        seen |= set(ablation.overrides)
        configs = [word for file in ablation.config for word in ("--config", file)]
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *configs, *tiny, *ablation.words(Path("out")), "--print_config"])
        assert stopped.value.code == 0, ablation.name
        model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
        for key, value in ablation.overrides.items():
            if not key.startswith("model.model."):
                continue
            found = model["model"]["init_args"]
            for step in key.split(".")[2:]:
                found = found[step] if step in found else found["init_args"][step]
            if key.endswith("_slot"):
                found = found["class_path"].rpartition(".")[2]
            assert found == value, (ablation.name, key)


def test_the_table_has_a_column_for_each_figure(listed):
    assert len(read_ablations(listed / "list.yaml")) == 2
    shown = table({"a": {"test/loss": 1.0}, "b": {"test/loss": 2.0, "test/unweighted_accuracy": 0.5}})
    assert shown.splitlines()[0] == "| ablation | loss | unweighted_accuracy |"
    assert shown.splitlines()[2:] == ["| a | 1.0000 |  |", "| b | 2.0000 | 0.5000 |"]


@pytest.mark.parametrize("changed", ["trainer.yaml", "manifest"])
def test_figures_of_another_configuration_or_other_data_are_not_taken_for_new(
    listed, corpus, monkeypatch, capsys, changed
):
    monkeypatch.chdir(listed)
    pretend(monkeypatch)
    manifest = listed / "own.jsonl"
    rows = [json.loads(line) | {"path": str(corpus.parent / json.loads(line)["path"])} for line in corpus.open()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (listed / "paths.yaml").write_text((listed / "paths.yaml").read_text().replace(str(corpus), str(manifest)))
    words = ["ablate", "list.yaml", "--out", "out", "--config", "paths.yaml", "--only", "full"]
    assert main(words) == 0
    if changed == "manifest":
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    else:
        config = yaml.safe_load((listed / changed).read_text())
        config["model"]["init_args"]["loss_weights"] = {"response": 0.5}
        (listed / changed).write_text(yaml.safe_dump(config))
    assert main(words) == 2
    assert "holds another variant of that name (made_from changed)" in capsys.readouterr().err
