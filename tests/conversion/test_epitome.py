import json
import subprocess
import sys

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import CheckpointError, load_empathy_classifier
from empathy_lightning.conversion import epitome
from empathy_lightning.errors import InputError
from empathy_lightning.modules.empathy_classifier import EmpathyClassifier
from tests.modules.test_empathy_classifier import NAMES, toy

__all__ = ["toy"]
SIZES = (300, 64, 2, 1, 48, 66)
UNUSED = ("norm.alpha", "norm.bias", "seeker_encoder.roberta.pooler.dense.weight")


def original(state):
    """Our names to the original's, with the weights that nothing reads."""
    back = {new: old for old, new in NAMES.items()}
    named = {next(k.replace(a, b, 1) for a, b in back.items() if k.startswith(f"{a}.")): v for k, v in state.items()}
    return named | {key: torch.zeros(64) for key in UNUSED}


@pytest.fixture
def release(tmp_path, toy):
    values, _ = toy
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(values["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(values["merges"]) + "\n")
    classifiers = {}
    for seed, name in enumerate(("ER", "IP", "EX")):
        torch.manual_seed(seed)
        classifiers[name] = EmpathyClassifier(*SIZES).eval()
        state = original(classifiers[name].state_dict())
        # Old files are of the format from before torch 1.6.
        torch.save(state, folder / f"reddit_{name}.pth", _use_new_zipfile_serialization=name != "EX")
    return folder, classifiers


FRESH = """
import sys, torch
from empathy_lightning.checkpoints import load_empathy_classifier
torch.set_num_threads(1)
estimate = load_empathy_classifier(sys.argv[1]).estimate(["I need help"], ["i want to TALK..."])
print([round(x, 4) for x in estimate.logits[0].tolist()])
"""


def test_three_files_become_three_folders_that_a_fresh_process_loads(release, tmp_path, toy):
    folder, classifiers = release
    assert main(["convert", "epitome", str(folder), "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert not report["missing"] and len(report["left_over"]) == 3 * len(UNUSED)
    assert len(report["used"]) == sum(len(c.state_dict()) for c in classifiers.values())
    for name, mechanism in zip(("ER", "IP", "EX"), epitome.MECHANISMS, strict=True):
        loaded = load_empathy_classifier(tmp_path / "out" / mechanism)
        for key, value in classifiers[name].state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)
    classifiers["EX"].tokenizer = toy[1]
    expected = classifiers["EX"].estimate(["I need help"], ["i want to TALK..."]).logits[0]
    command = [sys.executable, "-c", FRESH, str(tmp_path / "out" / "exploration")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == str([round(x, 4) for x in expected.tolist()])


def test_without_tokenizer_files_the_public_one_is_named(release, tmp_path):
    folder, _ = release
    (folder / "merges.txt").unlink()
    epitome.convert(folder / "reddit_IP.pth", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["interpretation"]
    config = json.loads((tmp_path / "out" / "interpretation" / "config.json").read_text())
    assert config["tokenizer"] == "roberta-base"
    assert config["model"]["init_args"]["lower_case"] is True
    config["tokenizer"] = "./nowhere"
    (tmp_path / "out" / "interpretation" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_empathy_classifier(tmp_path / "out" / "interpretation")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "reddit_ER.pth").rename(f / "reddit.pth"), "one mechanism"),
        (lambda f: (f / "reddit_ER.pth").rename(f / "IP.pth"), "one mechanism"),
        (lambda f: torch.save({"a": torch.zeros(1)}, f / "reddit_ER.pth"), "no state dict of EPITOME"),
        (lambda f: torch.save([1], f / "reddit_ER.pth"), "no state dict"),
        (lambda f: [path.unlink() for path in f.glob("*.pth")], "no .pth file"),
    ],
)
def test_faults_are_told(release, tmp_path, spoil, reason):
    folder, _ = release
    spoil(folder)
    with pytest.raises(InputError, match=reason):
        epitome.convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
