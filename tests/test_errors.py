"""A user's error is one line that says what to do; a fault of the program's own is shown with its traceback."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, WhisperModel

from empathy_lightning.__main__ import COMMANDS, main
from empathy_lightning.commands import options
from empathy_lightning.errors import InputError
from tests.conftest import ROOT

RECOGNITION = ROOT / "examples/demo/emotion_recognition.yaml"
ADAPTER = ROOT / "examples/demo/speech_adapter.yaml"


def lookup():
    try:
        Path("/nowhere/file").read_text()
    except OSError:
        return {}["key"]


def hidden():
    try:
        Path("/nowhere/file").read_text()
    except OSError:
        raise RuntimeError("what we did wrong") from None


def missing():
    Path("/nowhere/of/ours").read_text()


def unimported():
    import no_such_package_at_all  # noqa: F401


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(lookup, KeyError), (hidden, RuntimeError), (missing, OSError), (unimported, ModuleNotFoundError)],
)
def test_a_fault_of_ours_is_never_dressed_up(fault, kind, monkeypatch):
    monkeypatch.setitem(COMMANDS, "corpora list", lambda: fault())
    with pytest.raises(kind):
        main(["corpora", "list"])


def test_a_file_that_the_user_named_is_one_line(tmp_path, monkeypatch, capsys):
    def _check(name: str, root: str, /):
        Path(root, "labels.csv").read_text()

    monkeypatch.setitem(COMMANDS, "corpora check", _check)
    assert main(["corpora", "check", "ravdess", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(tmp_path / "labels.csv") in error


def test_the_traceback_is_shown_where_it_is_asked_for(monkeypatch, capsys):
    words = ["corpora", "export", "nothing", "/nowhere", "--out", "x.jsonl"]
    assert main(words) == 2 and capsys.readouterr().err.startswith("error: no corpus named 'nothing'")
    monkeypatch.setenv("EMPATHY_TRACEBACK", "1")
    with pytest.raises(InputError):
        main(words)


def told(words, capsys):
    """The one line that a command ends with."""
    assert main(words) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ") and len(line) <= 307
    return line


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (
            "--model.los_weights.rating=0",
            ["error: model.los_weights.rating: there is no", "did you mean loss_weights?"],
        ),
        ("--model.init_args.optimize=1", ["model.optimize", "did you mean optimizer?"]),
        (
            "--model.model.listener.emotion_nuance.hidden_siz=3",
            ["model.model.listener.emotion_nuance.hidden_siz", "hidden_size?"],
        ),
        ("--trainer.max_epochss=1", ["trainer.max_epochss", "did you mean trainer.max_epochs?"]),
        ("--trainer.precision=bf17", ["trainer.precision", "bf16-mixed", "32-true", "did you mean bf16?"]),
        (
            "--model.model.listener.emotion_nuance.pooling=mea",
            ["emotion_nuance.pooling", "attention, mean, statistics"],
        ),
        ("--model.auxiliary_losses.a=empathy_lightning.losses.CategoricalLos", ["did you mean CategoricalLoss?"]),
        ("--model.auxiliary_losses.a=CategoricLoss", ["no class CategoricLoss; did you mean CategoricalLoss?"]),
        ("--model.auxiliary_losses.a=nobodys_losses.Foo", ["model.auxiliary_losses", "nobodys_losses", "PYTHONPATH"]),
        ("--model.class_path=EmotionNuanceTas", ["did you mean EmotionNuanceTask?"]),
        ("--data.batch_seconds=many", ["data.batch_seconds: Expected a float"]),
        (
            "--model.model.listener.emotion_nuance.hidden_size=-3",
            ["model.model.listener.emotion_nuance", "negative dimension -3"],
        ),
        ("--model.model.listener.speech_encoder.name_or_path=/nowhere", ["speech_encoder.name_or_path", "/nowhere"]),
        ("--ckpt_path=/nowhere/a.ckpt", ["ckpt_path: no checkpoint at /nowhere/a.ckpt"]),
        ("--model.initial_weights=[/nowhere]", ["model.initial_weights", "/nowhere"]),
        ("--ckpt_path=best", ["ckpt_path best: name the file of the checkpoint"]),
        ("--trainer.callbacks.dummy", ["trainer.callbacks", "expected one argument"]),
        ("--data.num_workers=-1", ["num_workers is -1"]),
        ("--data.protocol=re-llm-iemcap", ["did you mean re-llm-iemocap?"]),
        (
            "--data.weights.tone=2",
            ["data.weights name no corpus that is here: tone; there are tones; did you mean tones"],
        ),
        ("--model.loss_weights.ratin=2", ["loss_weights name no loss: ratin; there are", "did you mean rating?"]),
    ],
)
def test_configurations_are_refused_in_one_line(given, parts, corpus, capsys):
    line = told(["fit", f"--config={RECOGNITION}", f"--data.corpora.path={corpus}", given], capsys)
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trainer:\n  max_epochs: 1\n bad: [\n", ["line 3", "no YAML"]),
        ("model:\n  init_args:\n    optimize: 3\n", ["model.optimize", "optimizer?"]),
        ("model: {init_args: {model: {listener: {emotion_nuance: {init_args: {pooling: mea}}}}}}\n",
         ["model.model.listener.emotion_nuance.pooling", "'mea'"]),
    ],
)  # fmt: skip
def test_the_file_with_the_mistake_is_named(text, parts, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(text)
    line = told(["fit", "--config", str(RECOGNITION), "--config", str(tmp_path / "mine.yaml")], capsys)
    assert str(tmp_path / "mine.yaml") in line and all(part in line for part in parts)


class Broken(nn.Module):
    """A class with a fault of its own."""

    def __init__(self):
        super().__init__()
        {}["key"]


def test_a_fault_in_a_constructor_is_shown_as_one(corpus):
    own = "--model.auxiliary_losses.a=tests.test_errors.Broken"
    with pytest.raises(KeyError):
        main(["fit", f"--config={RECOGNITION}", f"--data.corpora.path={corpus}", own])


def test_data_are_looked_at_before_a_model_is_loaded(monkeypatch, capsys):
    for kind in (AutoModelForCausalLM, WhisperModel):
        monkeypatch.setattr(kind, "from_pretrained", lambda *a, **k: pytest.fail("loaded in vain"))
    line = told(["fit", f"--config={ADAPTER}", "--data.corpora.path=/nowhere/mine.jsonl"], capsys)
    assert "no manifest at /nowhere/mine.jsonl" in line


class PerUtterance(nn.Module):
    """A loss that forgets the mean."""

    def forward(self, output, batch):
        return output.emotion.logits.logsumexp(1)


def test_a_loss_that_is_no_scalar_is_named(corpus, tmp_path, capsys):
    words = ["fit", f"--config={RECOGNITION}", f"--data.corpora.path={corpus}", "--trainer.logger=false"]
    words += ["--trainer.callbacks=null", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    line = told([*words, "--model.auxiliary_losses.odd=tests.test_errors.PerUtterance"], capsys)
    assert "the loss 'odd' gives no scalar but shape" in line and "mean" in line


def test_what_an_option_begins_with_is_no_option(capsys):
    words = ["fit", f"--config={RECOGNITION}", "--trainer.max_epoch=1"]
    assert "trainer.max_epoch: there is no such key; did you mean trainer.max_epochs?" in told(words, capsys)


def test_a_word_that_was_meant_is_suggested(capsys):
    assert 'Did you mean "fit"?' in told(["fitt"], capsys)


def test_a_name_out_of_a_list_is_suggested(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text(f"- {{name: full, config: {RECOGNITION}}}")
    assert "named ful; did you mean full?" in told(["ablate", "list.yaml", "--out=out", "--only", "ful"], capsys)
    words = ["prepare", "pseudo_dialogues", str(corpus), f"--recordings={corpus}", "--language_model=l", "--out=o"]
    line = told([*words, "--distribution", "happpy=1"], capsys)
    assert "'happpy', which is no known emotion word; did you mean happy?" in line
    words = ["corpora", "check", "manifest", str(corpus), "--protocol=offical"]
    assert "did you mean official?" in told(words, capsys)


def test_the_trainers_are_listed(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n│ {name} " in said for name in ("fit", "validate", "test")) and "--model.help" in said


def test_the_help_of_a_task_is_where_the_page_says(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--model.help=EmotionNuanceTask"])
    assert "--model.optimizer" in capsys.readouterr().out
    assert "--model.help" in (ROOT / "docs/how-to/train.md").read_text()


def test_what_is_offered_is_what_there_is():
    from empathy_lightning.evaluation.parsing import PARSERS
    from empathy_lightning.modules.pretrained import dtype_named
    from empathy_lightning.papers import PAPERS
    from empathy_lightning.preparation.response_selection import REFUSALS

    assert tuple(PAPERS) == get_args(options.PaperName)
    assert tuple(PARSERS) == get_args(options.ParserName)
    assert tuple(REFUSALS) == get_args(options.RefusalFilter)
    assert all(isinstance(dtype_named(name), torch.dtype) for name in get_args(options.DtypeName))


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "emotion", "--manifest=m", "--checkpoint=c", "--by=ear"],
        ["evaluate", "emotion", "--manifest=m", "--checkpoint=c", "--parser=word"],
        ["evaluate", "emotion", "--manifest=m", "--checkpoint=c", "--paper=stew"],
        ["respond", "m", "--out=o", "--checkpoint=c", "--paper=re_lm"],
        ["prepare", "responses", "m", "--out=o", "--language_model=l", "--engine=vlm"],
        ["prepare", "responses", "m", "--out=o", "--language_model=l", "--dtype=float3"],
        ["prepare", "responses", "m", "--out=o", "--language_model=l", "--refusals=some"],
    ],
)
def test_closed_sets_are_choices(words, capsys):
    assert "Choose from" in told(words, capsys)
