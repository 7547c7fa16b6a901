"""Released weights: read under their own names, and written for transformers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from empathy_lightning.errors import InputError
from empathy_lightning.files import usual_mode
from empathy_lightning.modules.model_files import check_file, read_json_object

_LAYOUTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: If the file is missing or holds none.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: get all files of the release")
    check_file(path)
    return read_json_object(path)


def number(config: Mapping[str, Any], name: str) -> int:
    """A whole number of a config.json.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(config.get(name), int):
        raise InputError(f"config.json has no number for {name}, but {config.get(name)!r}")
    return int(config[name])


def read_weights(source: Path) -> dict[str, Tensor]:
    """All tensors of a release; safetensors and pickles of the zip format are mapped into memory, not read.

    Args:
        source: Folder with ``model.safetensors`` or ``pytorch_model.bin``, sharded or not, or one such file.

    Raises:
        InputError: If a file is missing, damaged or holds more than tensors.
    """
    if source.is_file():
        return _read_file(source)
    for name in _LAYOUTS:
        file = source / name
        if file.is_file():
            return _read_shards(file) if file.suffix == ".json" else _read_file(file)
    raise InputError(f"{source} holds none of {', '.join(_LAYOUTS)}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index} is damaged: it has no weight_map; get it again")
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(places.values())):
        weights |= _read_file(index.parent / Path(shard).name)
    if lost := sorted(set(places) - set(weights)):
        raise InputError(f"{index} promises {lost[0]}, which no shard holds: get the files again")
    return weights


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing: get all files of the release")
    check_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Only the zip format can be mapped; older files are read whole.
        mapped = path.open("rb").read(2) == b"PK"
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise InputError(f"{path} holds more than tensors and is not opened: it could run code") from None
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} is no state dict: it must map names to tensors")
    return dict(weights)


def write_model(folder: Path, config: Any, weights: Mapping[str, Tensor], shard_bytes: int = 10**9) -> None:
    """Write a folder that transformers loads; what is mapped from files is copied from there, not held in memory.

    Args:
        folder: Made if it is not there.
        config: The model's transformers configuration; it is given the weights' precision.
        weights: Under transformers' names.
        shard_bytes: Most bytes of a file.
    """
    config.dtype = next(iter(weights.values())).dtype
    config.save_pretrained(folder)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in weights.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        # safetensors writes no strided views.
        shards[-1][name] = tensor.contiguous()
        size += tensor.nbytes
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors"
        if len(shards) > 1:
            file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        # Pieces of one tensor may share its memory, as long as they do not overlap.
        save_file(shard, folder / file, metadata={"format": "pt"})
        usual_mode(folder / file)
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(t.nbytes for t in weights.values())}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
