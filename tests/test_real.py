"""The real recipe's script: every step with tiny models in the place of Whisper base and SmolLM2, and with the real."""

import json
import os
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from empathy_lightning.checkpoints import load
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.pretrained import shipped
from empathy_lightning.utterance import Utterance
from tests.conftest import ROOT

ENGINE = """
import torch

class Beeps:
    def __init__(self, styles):
        self.styles = styles
    def say(self, text, style, seed):
        time = torch.arange(1600 * len(text.split())) / 16000
        return 0.3 * torch.sin(6.283 * (200 + seed % 300) * time), 16000
    def identity(self):
        return {"engine": "beeps", "version": "1", "voice": ""}
"""

QUESTIONS = ("Where is my coat?", "How do I bake bread?", "Who is at the door?", "Is it late?", "Can you sing a song?")


def write_whisper(folder):
    """A tiny untrained Whisper for English, with its tokenizer and a window of 30 seconds."""
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|notimestamps|>"]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *specials]
    tokenizer = WhisperTokenizer({token: index for index, token in enumerate(tokens)}, [])
    end, start, _, silent = tokenizer.convert_tokens_to_ids(specials)
    config = WhisperConfig(
        vocab_size=len(tokens), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_target_positions=24, pad_token_id=end,
        bos_token_id=end, eos_token_id=end, decoder_start_token_id=start, begin_suppress_tokens=None,
        suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start, max_length=16,
        no_timestamps_token_id=silent, return_timestamps=False, is_multilingual=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)


def script():
    spec = spec_from_file_location("real", ROOT / "examples/real.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a voice, and with questions of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("beeps.py").write_text(ENGINE)
    engine = {"class_path": "beeps.Beeps", "init_args": {"styles": ["one", "other"]}}
    drawn = {"train": ["one"], "validation": ["one"], "test": ["other"]}
    Path("users.yaml").write_text(yaml.safe_dump({"engine": engine, "drawn": drawn}))
    splits = ("train", "train", "validation", "test", "test")
    rows = [
        Utterance(f"{i}", "questions", f"unspoken/{i}.wav", transcript=text, split=split, language="en")
        for i, (text, split) in enumerate(zip(QUESTIONS, splits, strict=True))
    ]
    Path("outputs/real").mkdir(parents=True)
    write_manifest("outputs/real/questions.jsonl", rows)
    return tmp_path


def small(num_tokens):
    adapter = "--model.model.listener.speech_adapter.init_args"
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    return {"fit": [*few, "--trainer.accelerator=cpu", f"{adapter}.num_tokens={num_tokens}"]}


def check_outcome(out):
    figures = json.loads((out / "figures.json").read_text())
    assert figures["utterances"] == 2
    assert {"likeness_floor", "likeness_replies", "likeness_cascade", "word_error_rate_repeated"} <= set(figures)
    assert [u.speaker for u in read_manifest(out / "replies.jsonl")] == ["other"] * 2
    assert all(u.transcript != u2.transcript for u, u2 in zip(
        read_manifest(out / "heard.jsonl"), read_manifest(out / "written.jsonl")[3:], strict=True
    ))  # fmt: skip
    # Stage 1b begins with the adapter of 1a, and the kept output of the encoder served both.
    first, second = (load(out / stage).listener.speech_adapter.state_dict() for stage in ("1_words", "2_replies"))
    distance = sum(float((first[name] - second[name]).norm()) for name in first)
    assert 0 < distance < 0.2 * sum(float(value.norm()) for value in first.values())
    assert list(out.glob("encoded/*/*.safetensors"))
    return set(json.loads((out / "times.json").read_text()))


def test_every_step_from_texts_to_figures_and_again_nothing_is_done_twice(place, monkeypatch, capsys):
    torch.manual_seed(0)
    write_whisper(place / "models/whisper-base")
    shutil.copytree(shipped("small-world/language_model"), place / "models/smollm2-135m-instruct")
    monkeypatch.setenv("EMPATHY_BACKBONES", str(place / "models"))
    real = script()
    real.real("users.yaml", small(600), filled=20)
    timed = check_outcome(place / "outputs/real")
    assert "outputs/real/questions.jsonl" not in timed and len(timed) == 11
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.jsonl") if path.name != "wordless.jsonl"}
    capsys.readouterr()
    real.real("users.yaml", small(600), filled=20)
    assert "$ empathy-lightning" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_every_step_with_the_real_models(place):
    if not os.environ.get("EMPATHY_BACKBONES"):
        pytest.skip("no real backbones; set EMPATHY_BACKBONES to a folder of them")
    script().real("users.yaml", small(4000), filled=20)
    check_outcome(place / "outputs/real")
