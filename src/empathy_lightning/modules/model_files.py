"""Files of pretrained models: whether they are whole; nothing is loaded for it."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from empathy_lightning.errors import InputError

_LFS = b"version https://git-lfs.github.com/spec/v1"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TEXTS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "tokenizer.model",
    "preprocessor_config.json", "processor_config.json", "chat_template.json", "normalizer.json", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "video_preprocessor_config.json", "adapter_config.json",
)  # fmt: skip


class PretrainedError(InputError, OSError):
    """Files of a pretrained model that cannot be used; the message is one line of at most 300 characters."""

    def __str__(self) -> str:
        said = str(self.args[0]) if self.args else ""
        line = " ".join(said.split())
        return line if len(line) <= 300 else f"{line[:297]}..."


def check_folder(folder: Path) -> None:
    """Look at the files of a model that transformers would read.

    Raises:
        PretrainedError: If one is a Git LFS pointer, empty, cut or no JSON, or a shard is missing.
    """
    for name in _TEXTS:
        if (folder / name).is_file():
            check_file(folder / name)
    chosen = weights_in(folder)
    if chosen is None:
        return
    check_file(chosen)
    if chosen.suffix == ".json":
        places = read_json_object(chosen).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise PretrainedError(f"{chosen} has no weight_map: get it again")
        for shard in sorted({str(place) for place in places.values()}):
            if not (folder / shard).is_file():
                raise PretrainedError(f"{folder / shard} is missing, but {chosen.name} names it: get all shards")
            check_file(folder / shard)


def weights_in(folder: Path) -> Path | None:
    """The file of weights, or their index, that transformers would read."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    return None


def pickled_in(folder: Path) -> list[Path]:
    """The files of weights that transformers would read, where they are PyTorch's and not safetensors."""
    chosen = weights_in(folder)
    if chosen is None or not chosen.name.startswith("pytorch_model.bin"):
        return []
    if chosen.suffix != ".json":
        return [chosen]
    shards = set(read_json_object(chosen)["weight_map"].values())
    return [folder / shard for shard in sorted(shards)]


def check_file(path: Path) -> None:
    """Look whether a file of weights, of a tokenizer or of a configuration is whole.

    Args:
        path: Of any kind; only JSON, safetensors and PyTorch's files are looked into.

    Raises:
        PretrainedError: If it is a Git LFS pointer, empty, cut or no JSON.
    """
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if start == _LFS:
        what = "the weights" if path.suffix in (".safetensors", ".bin", ".pt", ".pth") else "the file"
        raise PretrainedError(f"{path} is a Git LFS pointer, not {what}: run `git lfs pull` there")
    if not start:
        raise PretrainedError(f"{path} is empty: get it again")
    if path.suffix == ".json":
        read_json_object(path)
    if path.suffix == ".safetensors":
        _check_length(path)
    # A zip file's index is at its end, so that one that was cut is none.
    if path.suffix in (".bin", ".pt", ".pth") and start.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise PretrainedError(f"{path} is damaged: it is cut at {path.stat().st_size} bytes; get it again")


def read_json_object(path: Path) -> dict[str, Any]:
    """What a JSON file holds.

    Raises:
        PretrainedError: If that is no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PretrainedError(f"{path} is damaged: it is no JSON ({error}); get it again") from None
    if not isinstance(values, dict):
        raise PretrainedError(f"{path} is damaged: it is no JSON object; get it again")
    return values


def _check_length(path: Path) -> None:
    """The format is eight bytes with the length of a JSON header, the header, then the tensors' bytes."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise PretrainedError(f"{path} is damaged: its header is cut; get it again")
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, PretrainedError):
            raise
        raise PretrainedError(f"{path} is damaged: its header cannot be read; get it again") from None
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        raise PretrainedError(f"{path} is damaged: it is cut at {size} of {needed} bytes; get it again")
