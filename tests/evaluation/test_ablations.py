"""A list of variants runs through the real command line; what is done is not done again."""

import json

import pytest
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.evaluation.ablations import read_ablations, table


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
            "corpora": [{"class_path": "empathy_lightning.corpora.Manifest", "init_args": {"path": "elsewhere.jsonl"}}],
            "batch_seconds": 5,
        },
        "model": {"class_path": "empathy_lightning.tasks.EmotionNuanceTask", "init_args": {
            "auxiliary_losses": {
                "categorical": {"class_path": "empathy_lightning.losses.CategoricalLoss"},
                "rating": {"class_path": "empathy_lightning.losses.RatingLoss"},
            },
            "model": {"class_path": "empathy_lightning.models.EmpatheticLM", "init_args": {
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
        "data": {"corpora": [{"class_path": "empathy_lightning.corpora.Manifest", "init_args": {"path": str(corpus)}}]}
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


def test_a_failed_variant_is_told_and_does_not_stop_the_others(listed, monkeypatch, capsys):
    ran = []

    def _fails_first(words, folder):
        ran.append((words[0], folder.name))
        return folder.name != "full"

    monkeypatch.setattr("empathy_lightning.evaluation.ablations._process", _fails_first)
    monkeypatch.setattr("empathy_lightning.evaluation.ablations._test_figures", lambda _: {"test/loss": 0.5})
    assert main(["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")]) == 1
    assert ran == [("fit", "full"), ("fit", "without_rating"), ("test", "without_rating")]
    shown = capsys.readouterr().out
    assert "full: failed, see" in shown and "| without_rating | 0.5000 |" in shown


def test_weights_of_an_earlier_variant_can_be_tested_otherwise(listed, monkeypatch):
    text = (listed / "list.yaml").read_text()
    (listed / "list.yaml").write_text(f"{text}- {{name: labels, config: trainer.yaml, retrain: false}}\n")
    calls = []
    monkeypatch.setattr("empathy_lightning.evaluation.ablations._process", lambda words, _: calls.append(words) or True)
    monkeypatch.setattr("empathy_lightning.evaluation.ablations._test_figures", lambda _: {"test/loss": 0.5})
    main(["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")])
    assert [words[0] for words in calls] == ["fit", "test", "fit", "test", "test"]
    assert f"--ckpt_path={listed / 'out/full/checkpoints/last.ckpt'}" in calls[-1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "expected a list"), ("- {name: a}", "entry 1: needs name and config"),
        ("- {name: a, config: no.yaml}", "no configuration at"), ("- [", "is not YAML"),
        ("- {name: a, config: trainer.yaml, seed: 1}", "entry 1"), ("- {name: a/b, config: trainer.yaml}", "fit for"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused(listed, text, reason, capsys):
    (listed / "list.yaml").write_text(text)
    assert main(["ablate", str(listed / "list.yaml"), "--out", str(listed / "out")]) == 2
    assert reason in capsys.readouterr().err and not (listed / "out").exists()


def test_the_table_has_a_column_for_each_figure(listed):
    assert len(read_ablations(listed / "list.yaml")) == 2
    shown = table({"a": {"test/loss": 1.0}, "b": {"test/loss": 2.0, "test/unweighted_accuracy": 0.5}})
    assert shown.splitlines()[0] == "| ablation | loss | unweighted_accuracy |"
    assert shown.splitlines()[2:] == ["| a | 1.0000 |  |", "| b | 2.0000 | 0.5000 |"]
