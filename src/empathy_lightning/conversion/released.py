"""Released weights: read under their own names, placed into our modules, written for transformers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from empathy_lightning.conversion.outcome import ConversionReport
from empathy_lightning.conversion.whole import check_whole
from empathy_lightning.errors import InputError
from empathy_lightning.files import usual_mode

Found = dict[str, tuple[str, Tensor]]
"""Our name of a weight: the source's key and its tensor."""

_LAYOUTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file.

    Raises:
        InputError: If it is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: give the folder of the released files")
    check_whole(path)
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    return values


def read_weights(source: Path) -> dict[str, Tensor]:
    """All tensors of a release; files of the zip format are mapped into memory, not read.

    Args:
        source: Folder with ``model.safetensors`` or ``pytorch_model.bin``, sharded or not, or one such file.

    Raises:
        InputError: If a file is missing, damaged or holds more than tensors.
    """
    if source.is_file():
        return _read_file(source)
    for name in _LAYOUTS:
        if not (source / name).is_file():
            continue
        if not name.endswith(".json"):
            return _read_file(source / name)
        places = read_json(source / name).get("weight_map", {})
        weights: dict[str, Tensor] = {}
        for shard in sorted(set(places.values())):
            weights |= _read_file(source / Path(shard).name)
        if lost := sorted(set(places) - set(weights)):
            raise InputError(f"{source / name} promises {lost[0]}, which no shard holds: get the files again")
        return weights
    raise InputError(f"{source} holds none of {', '.join(_LAYOUTS)}")


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"{path} is missing: get all files of the release")
    check_whole(path)
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


def found(weights: Mapping[str, Tensor], name_of: Callable[[str], str | None]) -> Found:
    """The weights to which a rule gives one of our names."""
    return {name: (key, value) for key, value in weights.items() if (name := name_of(key)) is not None}


def renamed(prefix: str, modules: Mapping[str, str] | None = None) -> Callable[[str], str | None]:
    """The rule that takes a prefix away and puts modules' new names in place of their old ones."""

    def _name(key: str) -> str | None:
        if not key.startswith(prefix):
            return None
        bare = key.removeprefix(prefix)
        for old, new in (modules or {}).items():
            if bare == old or bare.startswith(f"{old}."):
                return new + bare.removeprefix(old)
        return bare

    return _name


def place(report: ConversionReport, part: str, module: nn.Module, weights: Found) -> dict[str, Tensor]:
    """The source's tensors for a module, each of its weights noted as used or missing.

    Args:
        report: Where to note it.
        part: Name of the module in our folder.
        module: May be on the meta device.
        weights: What the source has for it; names that the module lacks are left alone.

    Raises:
        InputError: If a tensor has another shape than the configuration says.
    """
    placed = {}
    for name, wanted in module.state_dict().items():
        if name not in weights:
            report.missing.append(f"{part}.{name}")
            continue
        key, tensor = weights[name]
        if tensor.shape != wanted.shape:
            raise InputError(f"{key} has shape {tuple(tensor.shape)}, but the configuration says {tuple(wanted.shape)}")
        placed[name] = tensor
        if key not in report.used:
            report.used.append(key)
    return placed


def finish(
    report: ConversionReport, weights: Mapping[str, Tensor], dry_run: bool, optional: tuple[str, ...] = ()
) -> None:
    """Note what is left over.

    Args:
        report: After every part was placed.
        weights: All tensors of the source.
        dry_run: Missing weights are only reported.
        optional: Beginnings of our names that may be missing.

    Raises:
        InputError: If anything else is missing and it is no dry run.
    """
    used = set(report.used)
    report.left_over = [key for key in weights if key not in used]
    wrong = [name for name in report.missing if not name.startswith(optional)]
    if wrong and not dry_run:
        raise InputError(f"the release lacks {len(wrong)} weights, for instance {', '.join(wrong[:3])}")


def write_model(folder: Path, config: Any, weights: Mapping[str, Tensor], shard_bytes: int = 10**9) -> None:
    """Write a folder that transformers loads; one shard at a time is in memory.

    Args:
        folder: Made here.
        config: The model's transformers configuration.
        weights: Under transformers' names.
        shard_bytes: Most bytes of a file.
    """
    config.save_pretrained(folder)
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in weights.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
        # Pieces of one tensor share its memory, which the format does not allow.
        save_file({name: tensor.clone() for name, tensor in shard.items()}, folder / file, metadata={"format": "pt"})
        usual_mode(folder / file)
        places |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(t.nbytes for t in weights.values())}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
