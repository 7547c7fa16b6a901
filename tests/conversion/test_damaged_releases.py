"""Releases whose files are Git LFS pointers or empty: the file is named, and nothing is written."""

import pytest
import torch

from empathy_lightning.__main__ import main
from tests.modules.test_empathy_classifier import toy
from tests.modules.test_pretrained import POINTER

__all__ = ["toy"]

FILES = {
    "audeering": ["config.json", "pytorch_model.bin"],
    "blsp_emo": ["config.json", "pytorch_model.bin", "qwen.tiktoken"],
    "re_llm": ["model.safetensors.index.json", "model-00001-of-00001.safetensors"],
    "epitome": ["reddit_ER.pth"],
    "freezeempath": ["config.json", "tokenizer.json", "model.safetensors"],
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
@pytest.mark.parametrize("content", [POINTER, ""])
def test_a_pointer_is_named(name, file, content, tmp_path, capsys):
    source = tmp_path / "release"
    source.mkdir()
    whole = {
        "config.json": '{"speech_generator": {}, "tts": {}, "hidden_size": 8}',
        "tokenizer.json": '{"added_tokens": [{"content": "<speech>", "id": 1}, {"content": "<emotion>", "id": 2}]}',
        "model.safetensors.index.json": '{"weight_map": {"a": "model-00001-of-00001.safetensors"}}',
    }
    for other in FILES[name]:
        if other in whole:
            (source / other).write_text(whole[other])
        elif other.endswith((".bin", ".pth")):
            torch.save({"a": torch.zeros(2)}, source / other)
    (source / file).write_text(content)
    assert main(["convert", name, str(source), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(source / file) in error and ("Git LFS pointer" if content else "is empty") in error
    assert not (tmp_path / "out").exists()
