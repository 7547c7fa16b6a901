"""What a run tells its loggers, by the override that the documentation names."""

import csv
import os
import subprocess
import sys

import pytest
import yaml

from empathy_lightning.__main__ import main
from tests.conftest import ROOT


@pytest.fixture
def place(corpus, tmp_path, monkeypatch):
    """A working folder with a recogniser that trains on the tiny corpus in a second."""
    monkeypatch.chdir(tmp_path)
    modules = "empathy_lightning.modules"
    content = {
        "out": "outputs/mine",
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 1, "gradient_clip_val": 0.001},
        "data": {
            "corpora": [{"class_path": "empathy_lightning.data.Manifest", "init_args": {"path": str(corpus)}}],
            "batch_size": 5,
        },
        "model": {
            "class_path": "EmotionNuanceTask",
            "init_args": {
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.02}},
                "auxiliary_losses": {"categorical": {"class_path": "empathy_lightning.losses.CategoricalLoss"}},
                "model": {
                    "listener": {
                        "speech_encoder": {
                            "class_path": f"{modules}.convolutional_encoder.ConvolutionalEncoder",
                            "init_args": {"hidden_size": 16, "channels": [4, 4], "dropout": 0.0},
                        },
                        "emotion_nuance": {
                            "class_path": f"{modules}.emotion_nuance.EmotionNuance",
                            "init_args": {"input_size": 16, "output_size": 8, "hidden_size": 8, "gate_size": 4,
                                          "num_heads": 2},
                        },
                    }
                },
            },
        },
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_the_curve_of_a_run_has_rate_and_gradients(place):
    assert main(["fit", "--config", "run.yaml"]) == 0
    with (place / "outputs/logs/mine/metrics.csv").open() as file:
        steps = [row for row in csv.DictReader(file) if row["train/loss"]]
    rates = [float(row["learning_rate"]) for row in steps]
    assert len(rates) == 8 and max(rates) == pytest.approx(0.02) and rates[-1] < 0.002
    # Before they are clipped.
    assert all(float(row["gradient_norm"]) > 0.01 for row in steps)


def test_tensorboard_shows_curves_settings_confusion_and_recordings(place):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra dev or logging)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "boards"]
    assert main(["fit", "--config", "run.yaml", *words]) == 0
    (folder,) = place.glob("boards/lightning_logs/version_0")
    found = EventAccumulator(str(folder), size_guidance={"audio": 0, "images": 0, "tensors": 0}).Reload()
    tags = found.Tags()
    assert {"train/loss", "validation/loss", "learning_rate", "gradient_norm"} <= set(tags["scalars"])
    assert len(found.Scalars("learning_rate")) == 8
    assert [event.step for event in found.Images("validation/confusion")] == [4, 8]
    assert len(tags["audio"]) == 4
    (sound, _) = found.Audio("validation/recording 0")
    assert sound.sample_rate == 16_000 and sound.length_frames > 1_000
    settings = (folder / "hparams.yaml").read_text()
    assert "model.init_args.optimizer.init_args.lr: 0.02" in settings and "data.batch_size: 5" in settings


def test_weights_and_biases_writes_a_run_without_a_network(place):
    pytest.importorskip("wandb", reason="wandb is not installed (extra logging)")
    words = [
        "--trainer.logger",
        "WandbLogger",
        "--trainer.logger.offline",
        "true",
        "--trainer.logger.save_dir",
        "boards",
    ]
    command = [sys.executable, "-m", "empathy_lightning", "fit", "--config", "run.yaml", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "WANDB_SILENT": "true"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = place.glob("boards/wandb/offline-run-*/run-*.wandb")
    written = run.read_bytes()
    for name in (b"learning_rate", b"gradient_norm", b"validation/loss", b"model.init_args.optimizer.init_args.lr"):
        assert name in written
    media = run.parent / "files/media"
    assert list(media.glob("images/validation/confusion*.png")) and list(media.glob("audio/validation/recordings*.wav"))


def test_no_logger_is_given_nothing(place):
    assert main(["fit", "--config", "run.yaml", "--trainer.logger", "false"]) == 0
    assert not list(place.glob("**/metrics.csv"))
