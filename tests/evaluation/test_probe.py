"""The linear probe that stands beside an emotion module."""

import json

import pytest
import torch

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.evaluation.probe import logistic_regression
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.utterance import EMOTIONS
from tests.tiny import spoken, whole


def test_the_regression_is_at_its_minimum():
    """Where the gradient, written down by hand, is zero."""
    rows, labels = torch.randn(60, 5), torch.randint(3, (60,))
    classifier = logistic_regression(rows, labels, 3, penalty=0.1)
    wrong = (rows @ classifier.weight.T + classifier.bias).softmax(1) - torch.eye(3)[labels]
    assert (wrong.T @ rows / 60 + 0.1 * classifier.weight).abs().max() < 1e-4
    assert wrong.mean(0).abs().max() < 1e-4


@pytest.fixture
def recogniser(backbones, tmp_path):
    """A recogniser that was never trained, on a frozen encoder of random weights."""
    encoder = SpeechEncoder.from_pretrained(str(backbones / "speech_encoder"))
    nuance = EmotionNuance(32, 32, hidden_size=48, gate_size=8)
    save(tmp_path / "recogniser", spoken(whole(encoder, emotion_nuance=nuance), list(EMOTIONS)))
    return tmp_path


def evaluate(folder, manifest, *words):
    named = [f"--checkpoint={folder / 'recogniser'}", f"--manifest={manifest}", f"--out={folder / 'figures.json'}"]
    return main(["evaluate", "emotion", "--by=classifier", *named, *words])


def test_a_probe_of_random_layers_tells_the_tones_apart(recogniser, corpus, capsys):
    """Each emotion is a tone of its own here, so layers of any weights tell them; an untrained head does not."""
    page = recogniser / "report.html"
    assert evaluate(recogniser, corpus, "--probe", f"--report={page}") == 0
    figures = json.loads((recogniser / "figures.json").read_text())
    assert figures["probe"]["unweighted_accuracy"] > 0.7 > 0.5 > figures["unweighted_accuracy"]
    assert set(figures["probe"]) == {"unweighted_accuracy", "validation", "penalty"}
    assert "by a linear probe of the speech encoder's layers" in capsys.readouterr().out
    assert "linear probe" in page.read_text()
    assert evaluate(recogniser, corpus) == 0
    assert "probe" not in json.loads((recogniser / "figures.json").read_text())


def test_it_needs_speech_to_be_fitted_to(recogniser, corpus, capsys):
    assert evaluate(recogniser, corpus, "--probe", "--split=validation") == 2
    assert "measure it on another one" in capsys.readouterr().err
    tests = [u for u in read_manifest(corpus) if u.split == "test"]
    write_manifest(recogniser / "tests.jsonl", tests)
    assert evaluate(recogniser, recogniser / "tests.jsonl", "--probe") == 2
    assert "no train utterance" in capsys.readouterr().err
