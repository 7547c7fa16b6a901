"""The tutorials run as they stand, one after the other in one folder, with tones for recordings."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from empathy_lightning.__main__ import COMMANDS, main
from empathy_lightning.audio import write
from empathy_lightning.checkpoints import save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.speechbrain_imports import speechbrain_imports
from empathy_lightning.utterance import EMOTIONS
from tests.conftest import ROOT
from tests.modules.test_emotion_encoder import tiny_config, write_checkpoint

PAGES = ROOT / "docs" / "tutorials"
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NAMED = re.compile(r"# ([\w.]+)\n")


def run_page(name):
    """Write the files that a page shows, and run its code and its commands, in their order; what its code left."""
    names = {}
    for language, block in _FENCED.findall((PAGES / name).read_text()):
        if named := _NAMED.match(block):
            Path(named[1]).write_text(block)
        elif language == "python":
            exec(block, names)
        elif language == "bash":
            for command in block.replace("\\\n", " ").splitlines():
                words = shlex.split(command.removeprefix("PYTHONPATH=. "))
                assert words[0] == "empathy-lightning"
                # One epoch is enough to see that it runs.
                words = ["1" if word == "20" else word for word in words[1:]]
                assert main(words) == 0, command
    return names


def test_an_emotion_is_heard_in_ten_lines(tmp_path, monkeypatch, capsys):
    model = "wav2vec2-large-robust-12-ft-emotion-msp-dim"
    torch.manual_seed(0)
    write_checkpoint(tmp_path / "models" / model, EmotionEncoder(tiny_config()).state_dict(), tiny_config())
    write(tmp_path / "question.wav", 0.1 * torch.randn(16_000))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMPATHY_BACKBONES", str(tmp_path / "models"))
    (code,) = (block for language, block in _FENCED.findall((PAGES / "hear-an-emotion.md").read_text()) if language)
    assert len(code.strip().splitlines()) <= 10
    names = run_page("hear-an-emotion.md")
    assert names["heard"].arousal.shape == (1,) and "calm 0 ... 1 excited" in capsys.readouterr().out


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Two emotions of five people, as tones of another height."""
    (tmp_path / "recordings").mkdir()
    time = torch.arange(12_000) / 16_000
    for pitch, speaker in enumerate(("anna", "ben", "cem", "dora", "emil")):
        for emotion, height in (("happy", 400.0), ("sad", 150.0)):
            for number in range(2):
                tone = torch.sin(2 * torch.pi * (height + 10 * pitch + number) * time)
                sound = 0.3 * tone + 0.01 * torch.randn(len(time))
                write(tmp_path / "recordings" / f"{speaker}_{emotion}_{number:02d}.wav", sound)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_corpus_a_loss_and_a_part_of_ones_own_train(recordings, recwarn):
    heard = run_page("your-corpus.md")["heard"]
    assert heard.emotion in ("happy", "sad") and abs(sum(heard.probabilities.values()) - 1) < 0.01
    assert json.loads((recordings / "emotion.json").read_text())["utterances"] == 4
    (stage,) = json.loads((recordings / "outputs/mine/training.json").read_text())["stages"]
    assert stage["task"] == "EmotionNuanceTask" and stage["trained"] == ["listener.emotion_nuance"]
    (corpus,) = stage["corpora"]
    assert corpus["utterances"] == {"test": 4, "train": 12, "validation": 4} and corpus["speakers"] == 5
    figures = run_page("your-loss.md")["history"][0]
    assert figures["validation/sure_loss"] >= 0
    heard = run_page("your-part.md")["heard"]
    assert heard.emotion in ("happy", "sad") and heard.arousal is None
    assert not [str(told.message) for told in recwarn if "logging interval" in str(told.message)]


def test_the_small_worlds_page_names_commands_that_there_are():
    page = (PAGES / "small-world.md").read_text()
    named = re.findall(r"`((?:demo|prepare) \w+)`", page)
    named += re.findall(r"^empathy-lightning (demo \w+)", page, re.MULTILINE)
    assert len(named) == 7 and set(named) <= COMMANDS.keys()


def test_two_bots_are_compared(tmp_path, monkeypatch, capsys, model, corpus):
    """With tiny bots in the places of the demo's."""
    page = (PAGES / "compare-two-bots.md").read_text()
    commands = [block.replace("\\\n", " ") for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE)]
    monkeypatch.chdir(tmp_path)
    model.emotions = list(EMOTIONS)
    for name in ("speech_adapter", "emotion_nuance"):
        save(tmp_path / "outputs/demo" / name, model)
    questions = [replace(question, split="test", response="It is.") for question in read_manifest(corpus)[:6]]
    write_manifest(tmp_path / "outputs/demo/corpus/units.jsonl", questions)
    write_manifest(tmp_path / "theirs.jsonl", questions)
    for command in "".join(commands).splitlines():
        assert main(shlex.split(command)[1:]) == 0, command
    shown = capsys.readouterr().out
    assert "words - feelings" in shown


def test_the_speechbrain_example_trains_the_module_alone(corpus):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("speechbrain_emotion", ROOT / "examples" / "speechbrain_emotion.py")
    example = module_from_spec(spec)
    with speechbrain_imports():
        spec.loader.exec_module(example)
    splits, emotions = example.datasets(corpus)
    assert [len(splits[name]) for name in ("train", "validation")] == [20, 5] and emotions == sorted(emotions)
    torch.manual_seed(0)
    brain = example.main(str(corpus), epochs=3)
    assert brain.seen == 5 and brain.hits >= 3  # tones of five heights are told apart; by chance one is right
    assert not any(parameter.requires_grad for parameter in brain.modules.encoder.parameters())
