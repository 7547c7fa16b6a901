"""Folders of models that are not whole, or say what is not so: one line with the file and the key."""

import json
import re
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from empathy_lightning.modules.emotion_encoder import EmotionEncoder
from empathy_lightning.modules.language_model import LanguageModel
from empathy_lightning.modules.model_files import PretrainedError
from empathy_lightning.modules.pretrained import dtype_named
from empathy_lightning.modules.speech_encoder import SpeechEncoder
from tests.modules.test_emotion_encoder import tiny_config

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 988097824\n"


@pytest.fixture(params=["language_model", "speech_encoder", "emotion_encoder"])
def backbone(request, backbones, tmp_path):
    """A folder of each kind of backbone, and what loads it."""
    folder = tmp_path / request.param
    if request.param == "emotion_encoder":
        from empathy_lightning.modules.emotion_encoder import _Released

        _Released(tiny_config()).save_pretrained(folder)
    else:
        shutil.copytree(backbones / request.param, folder)
    loaders = {
        "language_model": LanguageModel.from_pretrained,
        "speech_encoder": SpeechEncoder.from_pretrained,
        "emotion_encoder": EmotionEncoder.from_pretrained,
    }
    return folder, loaders[request.param]


def edited(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def without(folder, key):
    path = folder / "config.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-50])


def sharded(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    first = dict(sorted(weights.items())[:2])
    save_file(first, folder / "model-00001-of-00002.safetensors", metadata={"format": "pt"})
    places = {key: f"model-0000{1 if key in first else 2}-of-00002.safetensors" for key in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def as_bin(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(100)}, folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(content((folder / "pytorch_model.bin").read_bytes()))


def legacy_cut(folder, size=-50):
    """PyTorch's format before zip files."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:size])


def legacy_shard_cut(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, key in enumerate(sorted(weights)):
        places[key] = f"pytorch_model-0000{1 + number % 2}-of-00002.bin"
    for shard in set(places.values()):
        part = {key: weights[key] for key in weights if places[key] == shard}
        torch.save(part, folder / shard, _use_new_zipfile_serialization=False)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    cut(folder / "pytorch_model-00002-of-00002.bin")


def lack(folder):
    weights = load_file(folder / "model.safetensors")
    key = next(
        key for key in sorted(weights) if key.endswith("layers.1.final_layer_norm.weight") or "layers.1.mlp" in key
    )
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (legacy_cut, r"/pytorch_model\.bin is damaged: it is cut at \d+ bytes"),
        (lambda f: legacy_cut(f, 1), r"/pytorch_model\.bin is damaged: it is cut at 1 bytes"),
        (lambda f: legacy_cut(f, 60), r"/pytorch_model\.bin is damaged: it is cut at 60 bytes"),
        (lambda f: legacy_cut(f, 300), r"/pytorch_model\.bin is damaged: it is cut at 300 bytes"),
        (legacy_shard_cut, r"/pytorch_model-00002-of-00002\.bin is damaged: it is cut at \d+ bytes"),
        (lambda f: (f / "normalizer.json").write_text(POINTER), r"/normalizer\.json is a Git LFS pointer"),
        (lambda f: (f / "generation_config.json").write_text(POINTER), r"/generation_config\.json is a Git LFS"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        (lambda f: (f / "preprocessor_config.json").write_text(POINTER), r"preprocessor_config\.json is a Git LFS"),
        (lambda f: (f / "model.safetensors").write_text(POINTER), r"/model\.safetensors is a Git LFS pointer, not the"),
        (lambda f: (f / "model.safetensors").write_text(""), r"/model\.safetensors is empty"),
        (lambda f: cut(f / "model.safetensors"), r"/model\.safetensors is damaged: it is cut at \d+ of \d+ bytes"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 99), r"/model\.safetensors is damaged: its header"),
        (lambda f: (f / "config.json").write_text(POINTER), r"/config\.json is a Git LFS pointer, not the file"),
        (lambda f: (f / "config.json").write_text('{"a": '), r"/config\.json is damaged: it is no JSON"),
        (sharded, r"/model-00002-of-00002\.safetensors is missing, but model\.safetensors\.index\.json names it"),
        (lambda f: as_bin(f, lambda data: data[:300]), r"/pytorch_model\.bin is damaged: it is cut at 300 bytes"),
        (lambda f: as_bin(f, lambda data: POINTER.encode()), r"/pytorch_model\.bin is a Git LFS pointer"),
        (lambda f: edited(f, num_hidden_layers="2", encoder_layers="2"), r"/config\.json: .*(dd|cod)e(n|r)_layers"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_one_line_with_the_file(backbone, spoil, reason):
    folder, load = backbone
    load(str(folder))
    spoil(folder)
    with pytest.raises(PretrainedError, match=reason) as error:
        load(str(folder))
    message = str(error.value)
    assert "\n" not in message and len(message) <= 300 and str(folder) in message


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f / "tokenizer.json").write_text(POINTER), r"tokenizer\.json is a Git LFS pointer"),
        (lambda f: edited(f, model_type="fresh"), r"config\.json: model_type 'fresh' is none that transformers knows"),
        (lambda f: without(f, "model_type"), r"config\.json has no model_type"),
        (lambda f: edited(f, intermediate_size=48), r"mlp\.\w+\.weight has shape \[.*\] in the weights"),
        (lambda f: edited(f, hidden_act="fresh"), r"config\.json: hidden_act 'fresh' is not known"),
        (lack, r"the weights lack model\.layers\.1\.mlp\.\w+\.weight"),
        (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template, as base models have none"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_language_model(backbones, tmp_path, spoil, reason):
    folder = shutil.copytree(backbones / "language_model", tmp_path / "lm")
    spoil(folder)
    with pytest.raises(PretrainedError, match=reason) as error:
        LanguageModel.from_pretrained(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) <= 300 and str(folder) in str(error.value)


def test_files_that_are_not_read_may_be_pointers(backbones, tmp_path):
    folder = shutil.copytree(backbones / "language_model", tmp_path / "lm")
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "optimizer.pt").write_text(POINTER)
    LanguageModel.from_pretrained(str(folder))


def test_a_speech_encoder_needs_no_decoder_s_weights(backbones, tmp_path):
    folder = shutil.copytree(backbones / "speech_encoder", tmp_path / "se")
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("decoder.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    SpeechEncoder.from_pretrained(str(folder))
    lack(folder)
    with pytest.raises(PretrainedError, match=r"lack encoder\.layers\.1\.final_layer_norm\.weight"):
        SpeechEncoder.from_pretrained(str(folder))


@pytest.mark.parametrize("load", [LanguageModel, SpeechEncoder, EmotionEncoder])
def test_without_a_network_a_model_that_is_not_in_the_cache_is_named_at_once(load, monkeypatch):
    def _unreachable(*_):
        raise socket.gaierror("no network")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", _unreachable)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for a network that is not there"))
    with pytest.raises(PretrainedError, match=r"^some/model is no folder and not in the cache.*hf download some/model"):
        load.from_pretrained("some/model")


def test_precisions_have_their_usual_names(backbones):
    for name in ("bf16", "bfloat16"):
        model = LanguageModel.from_pretrained(str(backbones / "language_model"), dtype=name)
        assert model.model.dtype == torch.bfloat16 and model.source["dtype"] == "bfloat16"
    assert dtype_named("fp16") == torch.float16 and dtype_named("fp32") == torch.float32
    with pytest.raises(PretrainedError, match=re.escape("no dtype named 'int3'; there are float32, bfloat16")):
        LanguageModel.from_pretrained(str(backbones / "language_model"), dtype="int3")


def test_auto_takes_the_precision_in_which_this_machine_computes_and_the_folder_keeps_it(backbones):
    native = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    language_model = LanguageModel.from_pretrained(str(backbones / "language_model"), dtype="auto")
    assert language_model.model.dtype == (torch.bfloat16 if native else torch.float32)
    assert language_model.source["dtype"] == ("bfloat16" if native else "float32")
