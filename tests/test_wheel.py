"""A wheel built from the tree and installed elsewhere holds all that a user of the command line needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from empathy_lightning.checkpoints import load
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the installed wheel; it is built from a copy, which leaves nothing in the tree."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("wheel")
    for name in ("src", "examples"):
        shutil.copytree(ROOT / name, place / "tree" / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "tree")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", place, place / "tree"], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "install", *offline, "--target", place / "installed", wheel], check=True)
    shutil.rmtree(place / "tree")
    return place / "installed"


def run(installed, folder, *words, code=0):
    """A command in a folder, of the installed wheel alone."""
    result = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert result.returncode == code, result.stderr[-3_000:]
    return result.stdout + result.stderr


def test_recipes_are_listed_shown_and_copied(installed, tmp_path):
    listed = run(installed, tmp_path, "empathy_lightning", "recipes", "list")
    assert "re_llm/iemocap " in listed and "RE-LLM on IEMOCAP" in listed and "base" not in listed.split()
    shown = run(installed, tmp_path, "empathy_lightning", "recipes", "show", "re_llm/iemocap")
    assert shown.index("class_path: JointTask") < shown.index("path: data/re_llm/iemocap.jsonl")
    copy = ("empathy_lightning", "recipes", "copy", "re_llm/iemocap", "--out", "mine")
    assert run(installed, tmp_path, *copy).split() == ["mine/re_llm/base.yaml", "mine/re_llm/iemocap.yaml"]
    assert (tmp_path / "mine/re_llm/base.yaml").read_text() == (ROOT / "examples/re_llm/base.yaml").read_text()
    copy = (*copy[:3], "re_llm/esd", *copy[4:])
    assert run(installed, tmp_path, *copy).split() == ["mine/re_llm/base.yaml", "mine/re_llm/esd.yaml"]
    (tmp_path / "mine/re_llm/base.yaml").write_text("mine")
    assert "is there already" in run(installed, tmp_path, *copy, code=2)


def test_the_server_s_page_comes_with_the_wheel(installed):
    page = Path("empathy_lightning/serving/page")
    files = {path.name: path.read_bytes() for path in (installed / page).iterdir()}
    assert files == {path.name: path.read_bytes() for path in (ROOT / "src" / page).iterdir()} and "index.html" in files


def test_a_recipe_of_the_wheel_trains(installed, tmp_path, corpus):
    words = ("--config", "recipe:demo/emotion_recognition", f"--data.corpora.path={corpus}", "--trainer.max_epochs=1")
    few = ("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")
    shown = run(installed, tmp_path, "empathy_lightning", "fit", *words, *few)
    assert "folder       outputs/demo/emotion_recognition" in shown
    assert (tmp_path / "outputs/demo/emotion_recognition/training.json").is_file()
    assert (tmp_path / "outputs/demo/logs/emotion_recognition/last.ckpt").is_file()


def test_the_demo_of_the_wheel_runs(installed, tmp_path):
    pytest.importorskip("espeakng_loader")
    shown = run(installed, tmp_path, "empathy_lightning", "demo", "run", "--quick")
    steps = [line.split()[2:4] for line in shown.splitlines() if line.startswith("$ empathy-lightning")]
    assert len(steps) == 9 and steps[0] == ["demo", "corpus"] and steps[-1] == ["demo", "evaluate"]
    # What a whole run makes is elsewhere.
    place = tmp_path / "outputs/demo_quick/outputs/demo"
    assert not (tmp_path / "outputs/demo").exists() and "emotion: unweighted accuracy" in shown
    page = (place / "report.html").read_text()
    assert "<audio" in page and 'src="http' not in page and "href=" not in page
    assert load(place / "speech_decoder").talker.vocoder is not None
    (recording, *_) = sorted((place / "corpus/audio").glob("test_*.flac"))
    bot = ("--checkpoint", str(place / "speech_decoder"))
    run(installed, tmp_path, "empathy_lightning", "chat", str(recording), *bot, "--out", "replies")
    assert (tmp_path / "replies/replies.json").is_file()
