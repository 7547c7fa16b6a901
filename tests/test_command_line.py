"""Bad input gets one clear line and exit code 2, never a traceback, and leaves nothing behind."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import Checkpoint, save
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT


@pytest.fixture
def bot(model, tmp_path):
    save(tmp_path / "bot", Checkpoint(model, list(EMOTIONS)))
    return tmp_path / "bot"


def recording(folder, name, samples, rate=16_000, **options):
    soundfile.write(folder / name, samples, rate, **options)
    return folder / name


def bad_recordings(folder):
    (folder / "text.wav").write_text("hello")
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    noise_with_nan = noise.copy()
    noise_with_nan[5] = np.nan
    return {
        "no such file": folder / "none.wav",
        "not audio": folder / "text.wav",
        "no samples": recording(folder, "empty.wav", np.zeros(0)),
        "too short": recording(folder, "short.wav", noise[:1_600]),
        "silent": recording(folder, "silent.wav", np.zeros(16_000)),
        "not numbers": recording(folder, "nan.wav", noise_with_nan, subtype="FLOAT"),
    }


def test_bad_recordings(bot, tmp_path, capsys):
    good = recording(tmp_path, "good.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1)
    for reason, path in bad_recordings(tmp_path).items():
        out = tmp_path / "out"
        assert main(["chat", str(good), str(path), "--out", str(out), "--checkpoint", str(bot)]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error:") and reason in error and path.name in error
        assert not out.exists()


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "seconds"), [("wav", 8_000, 2, 0.25), ("mp3", 44_100, 1, 2), ("flac", 48_000, 2, 40)]
)
def test_any_recording_is_answered(bot, tmp_path, suffix, rate, channels, seconds):
    noise = np.random.default_rng(0).standard_normal((round(rate * seconds), channels)) * 0.1
    path = recording(tmp_path, f"a.{suffix}", noise, rate)
    assert main(["chat", str(path), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 0
    assert (tmp_path / "out" / "replies.json").is_file()


def test_missing_checkpoints(bot, tmp_path, capsys):
    good = recording(tmp_path, "good.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1)
    assert main(["chat", str(good), "--out", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "no")]) == 2
    assert "make demo" in capsys.readouterr().err
    (bot / "model.safetensors").unlink()
    assert main(["chat", str(good), "--out", str(tmp_path / "out"), "--checkpoint", str(bot)]) == 2
    assert "model.safetensors is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_manifests(tmp_path, capsys):
    words = ["prepare", "responses", str(tmp_path / "no.jsonl"), "--out", str(tmp_path / "o.jsonl")]
    assert main([*words, "--language-model", "small-world/language_model"]) == 2
    assert "no manifest" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (["--trainer.max_epochss=1"], "max_epochss"),
        (["--data.batch_seconds=many"], "data.batch_seconds: Expected a <class 'float'>"),
        (["--model.init_args.learning_rat=1"], "learning_rat"),
        (["--data.corpora.path=/nowhere/manifest.jsonl"], "no manifest at /nowhere"),
        (["--model.model.language_model.name_or_path=/nowhere"], "/nowhere"),
    ],
)
def test_bad_configurations(extra, reason, tmp_path):
    command = [
        sys.executable,
        "-m",
        "empathy_lightning",
        "fit",
        "--config",
        str(ROOT / "examples/demo/speech_adapter.yaml"),
    ]
    result = subprocess.run([*command, *extra], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr and reason in result.stderr.splitlines()[-1]
    assert result.stderr.count("error") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_help_teaches(capsys):
    for words in (["--help"], ["chat", "--help"], ["prepare", "responses", "--help"], ["evaluate", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(words)
        assert exit_.value.code == 0
    assert "fit" in capsys.readouterr().out
