"""Real pretrained models through the command line: half-precision folders under either kind of names, no pad token, a
template with a system message of its own, tied embeddings, bfloat16 on a CPU. Skipped without EMPATHY_BACKBONES."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from empathy_lightning.__main__ import main
from empathy_lightning.checkpoints import load, save
from empathy_lightning.data import read_manifest, write_manifest
from empathy_lightning.modules.emotion_nuance import EmotionNuance
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from empathy_lightning.utterance import EMOTIONS, Utterance
from tests.tiny import spoken as named

BACKBONES = os.environ.get("EMPATHY_BACKBONES")
pytestmark = pytest.mark.skipif(not BACKBONES, reason="no real backbones; set EMPATHY_BACKBONES to a folder of them")


@pytest.fixture(scope="module")
def spoken(speech_folder, tmp_path_factory):
    """Three recordings of RAVDESS with replies to them."""
    files = sorted((speech_folder / "ravdess").rglob("*.flac"))[:3]
    replies = ("The kids are playing.", "Close the door, please!", "Dogs like to sit there.")
    rows = []
    for index, (file, reply) in enumerate(zip(files, replies, strict=True)):
        split = "validation" if index == 0 else "train"
        said = {"transcript": "Kids are talking by the door.", "response": reply, "emotion": "neutral"}
        rows.append(Utterance(str(index), "ravdess", str(file), split=split, speaker="1", **said))
    folder = tmp_path_factory.mktemp("spoken")
    write_manifest(folder / "spoken.jsonl", rows)
    return folder / "spoken.jsonl"


def whisper_with(folder, change):
    """Whisper tiny.en with other names or numbers in its weights."""
    shutil.copytree(f"{BACKBONES}/whisper-tiny.en", folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(change(weights), folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def bare(weights):
    """As ``WhisperModel`` saves them, not ``WhisperForConditionalGeneration``."""
    return {name.removeprefix("model."): value for name, value in weights.items()}


def whole(weights):
    return {name: value.float() for name, value in weights.items()}


def openai(weights):
    """Under the names of openai-whisper, as far as a look tells."""
    return {
        name.replace("model.encoder.layers.", "encoder.blocks.").replace("self_attn.", "attn."): value
        for name, value in weights.items()
    }


def fit(out, speech_encoder, manifest, *words):
    """Two steps of FreezeEmpath's stage 1."""
    return main([
        "fit", "--config", "recipe:freezeempath/1_semantic_alignment", "--out", str(out),
        "--backbones.speech_encoder", speech_encoder,
        "--backbones.language_model", f"{BACKBONES}/smollm2-135m-instruct", "--trainer.accelerator=cpu",
        "--trainer.devices=1", "--trainer.strategy=auto", "--trainer.precision=32-true", "--trainer.max_epochs=1",
        "--trainer.accumulate_grad_batches=1", "--data.num_workers=0", "--data.batch_size=1",
        "--data.corpora.path", str(manifest), *words,
    ])  # fmt: skip


@pytest.mark.parametrize("change", [bare, whole])
def test_the_encoder_is_the_same_under_either_names_and_in_either_precision(change, spoken, tmp_path):
    waveform = 0.1 * torch.randn(2, 16_000)
    folder = whisper_with(tmp_path / "whisper", change)
    encoders = [SpeechEncoder.from_pretrained(name) for name in (folder, f"{BACKBONES}/whisper-tiny.en")]
    ours, expected = (encoder(waveform, torch.tensor([16_000, 9_000])).frames for encoder in encoders)
    assert expected.abs().max() > 1 and torch.equal(ours, expected)


def test_openai_s_own_names_are_refused_in_words(spoken, tmp_path, capsys):
    folder = whisper_with(tmp_path / "whisper", openai)
    assert fit(tmp_path / "out", folder, spoken, "--model.model.responder.language_model.init_args.dtype=float32") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and folder in error and "openai-whisper" in error and len(error) < 320


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_from_fit_to_answers(dtype, spoken, tmp_path, capsys):
    out = tmp_path / "out"
    words = [f"--model.model.responder.language_model.init_args.dtype={dtype}"]
    assert fit(out, f"{BACKBONES}/whisper-tiny.en", spoken, *words) == 0
    training = json.loads((out / "training.json").read_text())
    assert training["frozen_unchanged"] is True
    # The adapter alone: neither a tied head nor the words' embeddings.
    assert (out / "model.safetensors").stat().st_size < 25e6
    bot = load(out)
    expected = torch.bfloat16 if dtype == "bfloat16" or torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    assert bot.responder.language_model.model.dtype == expected
    # One system message, the template's own.
    (words_before, *_) = bot.responder.segments()
    assert bot.responder.language_model.tokenizer.decode(words_before).count("<|im_start|>system") == 1
    limits = ["--max_new_tokens", "5"]
    replies = tmp_path / "replies.jsonl"
    assert (
        main(["respond", str(spoken), "--checkpoint", str(out), "--split", "all", "--out", str(replies), *limits]) == 0
    )
    assert len(read_manifest(replies)) == 3
    files = [utterance.path for utterance in read_manifest(spoken)[:2]]
    bot.listener.emotion_nuance = EmotionNuance(384, 576, hidden_size=16, gate_size=8)
    save(tmp_path / "bot", named(bot, EMOTIONS))
    assert main(["chat", *files, "--checkpoint", str(tmp_path / "bot"), "--out", str(tmp_path / "chat"), *limits]) == 0
    said = json.loads((tmp_path / "chat/replies.json").read_text())
    assert len(said) == 2 and all(one["text"] for one in said)
