"""The memory of a training by arithmetic, against bytes counted while `fit` runs the same configuration."""

import json

import pytest
import soundfile
import torch
import yaml

from empathy_lightning.__main__ import main
from empathy_lightning.commands.memory_report import changes, training_of
from empathy_lightning.data import write_manifest
from empathy_lightning.utterance import EMOTIONS, Utterance

SECONDS, ROWS, REPLY = 2.0, 3, "word " * 40


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Utterances of one length, so that every batch is the largest."""
    folder = tmp_path_factory.mktemp("noise")
    rows = []
    for index in range(4 * ROWS):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * torch.randn(round(16_000 * SECONDS)).numpy(), 16_000)
        said = {"transcript": REPLY, "response": REPLY, "units": [1] * 40}
        split = "validation" if index == 0 else "train"
        rows.append(Utterance(str(index), "noise", str(path), split=split, emotion=EMOTIONS[index % 5], **said))
    write_manifest(folder / "noise.jsonl", rows)
    return folder / "noise.jsonl"


def entry(kind, **arguments):
    return {"class_path": kind, "init_args": arguments}


def configuration(stage, backbones, noise, folder, checkpointing=False, **trainer):
    """A stage around the tiny backbones."""
    encoder, language_model = str(backbones / "speech_encoder"), str(backbones / "language_model")
    modules = "empathy_lightning.modules"
    listener = {
        "speech_encoder": entry(f"{modules}.speech_encoder.SpeechEncoder.from_pretrained", name_or_path=encoder),
        "speech_adapter": entry("SpeechAdapter", input_size=32, output_size=32, hidden_size=64),
    }
    responder = {
        "prompt": "{speech}",
        "language_model": entry(
            f"{modules}.language_model.LanguageModel.from_pretrained",
            name_or_path=language_model,
            gradient_checkpointing=checkpointing,
        ),
    }
    model, task = {"listener": listener, "responder": responder}, {}
    if stage > 1:
        task["initial_weights"] = [str(folder / "1")]
    if stage == 2:
        listener["emotion_nuance"] = entry("EmotionNuance", input_size=32, output_size=32, hidden_size=64)
        responder["prompt"] = "{speech} ({emotion})"
        task["auxiliary_losses"] = {"categorical": entry("CategoricalLoss")}
    if stage == 3:
        body = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2}
        decoder = {"input_size": 32, "text_vocab_size": 300, "end_token_id": 0, "num_units": 8, "body": body}
        model["talker"] = {"speech_decoder": entry("SpeechDecoder", **decoder)}
    task["model"] = model
    return {
        "out": str(folder / str(stage)),
        "monitor": None,
        "trainer": {
            "accelerator": "cpu", "devices": 1, "max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 1,
            "callbacks": [entry("benchmarks.live_bytes.CountedSteps", path=str(folder / "counted.json"))], **trainer,
        },
        "data": {
            "corpora": [entry("Manifest", path=str(noise))], "batch_size": ROWS, "batch_seconds": ROWS * SECONDS,
            "read_audio": stage < 3,
        },
        "model": {
            "class_path": {1: "SpeechAdapterTask", 2: "EmotionNuanceTask", 3: "SpeechDecoderTask"}[stage],
            "init_args": task,
        },
    }  # fmt: skip


def counted_and_computed(folder, given, tokens):
    """Bytes beside the weights, counted and computed, and the weights, which have to be the same."""
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(given))
    assert main(["fit", "--config", str(file), "--again"]) == 0
    words = [str(file), f"--seconds={SECONDS}", f"--reply_tokens={tokens}", "--units=41"]
    assert main(["memory", *words, "--out", str(folder / "memory.json")]) == 0
    counted = json.loads((folder / "counted.json").read_text())
    computed = json.loads((folder / "memory.json").read_text())
    assert computed["weights"] == pytest.approx(counted["weights"], rel=0.01)
    return counted["peak"] - counted["weights"], computed["peak"] - computed["weights"]


TOKENS = len(REPLY.strip()) + 1
"""Of the byte tokenizer's, with the end."""


@pytest.mark.parametrize(("checkpointing", "precision"), [(False, "32-true"), (True, "bf16-mixed")])
def test_what_is_computed_is_what_a_step_takes(checkpointing, precision, backbones, noise, tmp_path, capsys):
    found = {}
    for stage in (1, 2, 3):
        given = configuration(stage, backbones, noise, tmp_path, checkpointing, precision=precision)
        found[stage] = counted_and_computed(tmp_path, given, TOKENS)
    capsys.readouterr()
    ratios = {stage: computed / counted for stage, (counted, computed) in found.items()}
    assert all(0.9 < ratio < 1.1 for ratio in ratios.values()), (ratios, found)


def test_whether_it_fits_is_said_from_config_json_alone_and_what_would_make_it_fit(backbones, noise, tmp_path, capsys):
    for name in ("speech_encoder", "language_model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes((backbones / name / "config.json").read_bytes())
    given = configuration(1, tmp_path, noise, tmp_path, precision="32-true")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
    words = ["memory", str(tmp_path / "run.yaml"), "--reserve=0"]
    assert main([*words, "--gpu=1"]) == 0
    assert "fits into 1 GiB" in capsys.readouterr().out
    assert main([*words, "--gpu=0.001"]) == 1
    shown = capsys.readouterr().out
    assert "does not fit" in shown and "gradient_checkpointing" in shown and "data.batch_size 1," in shown
    for change, training in changes(training_of([str(tmp_path / "run.yaml")], None, 64, None)):
        # What is told alone is computed alone.
        assert training.case.language.checkpointed == ("checkpointing" in change), change
    assert main(["memory", str(tmp_path / "no.yaml")]) == 2
    assert main(["memory", "recipe:ravdess"]) == 2
    assert "language model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--gpu=nan", "--gpu=-3", "--seconds=0", "--reply_tokens=0", "--units=-4", "--reserve=inf", "--out=/proc/x"],
)
def test_what_is_no_amount_is_refused_before_anything_is_read(option, capsys):
    assert main(["memory", "recipe:re_llm/iemocap", option]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert option.partition("=")[0] in line


def test_a_folder_that_is_still_to_be_made_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["memory", "recipe:re_llm/iemocap"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "models/blsp-emo/speech_encoder is no folder here" in line and "make the folder first" in line
