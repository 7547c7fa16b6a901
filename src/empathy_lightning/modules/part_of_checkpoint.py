"""One part of a checkpoint folder, without the others: for those who reuse a module alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils.hub import cached_file

from empathy_lightning.modules.model_files import PretrainedError, check_file, read_json_object
from empathy_lightning.modules.pretrained import opened


def part_of_checkpoint(kind: type[nn.Module], name_or_path: str, revision: str | None = None) -> Any:
    """The part of a class that a checkpoint folder of this library holds, in eval mode.

    Args:
        kind: Its class, whose constructor takes plain values.
        name_or_path: Folder, or ``user/name`` or ``user/name@revision`` of the Hub.
        revision: Branch, tag or commit on the Hub.

    Raises:
        PretrainedError: If the folder cannot be used, or holds no such part.
    """
    name, _, named = name_or_path.partition("@")
    with opened(name, revision or named or None) as (folder, where):
        chosen = {key: where[key] for key in ("revision", "local_files_only")}
        config = Path(str(cached_file(folder, "config.json", **chosen)))
        weights = Path(str(cached_file(folder, "model.safetensors", **chosen)))
        check_file(weights)
        path, arguments = _entry_of(kind, read_json_object(config).get("model"), name_or_path)
        part = kind(**arguments)
        part.load_state_dict(_weights_of(weights, path))
    return part.eval()


def _entry_of(kind: type[nn.Module], model: Any, name_or_path: str) -> tuple[str, dict[str, Any]]:
    """Path and arguments of the first part of a class."""
    wanted = f"{kind.__module__}.{kind.__qualname__}"
    for path, found in _entries(model):
        if found["class_path"] == wanted:
            return path, found["init_args"]
    raise PretrainedError(f"{name_or_path} holds no {kind.__name__} of this library")


def _entries(found: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a config.json with their paths."""
    if not (isinstance(found, dict) and set(found) == {"class_path", "init_args"}):
        return
    yield path, found
    for name, value in found["init_args"].items():
        yield from _entries(value, f"{path}.{name}" if path else name)


def _weights_of(file: Path, path: str) -> dict[str, Any]:
    """Weights of a part, without its path; the others are not read."""
    start = f"{path}." if path else ""
    try:
        with safe_open(file, "pt") as stored:
            own = [key for key in stored.keys() if key.startswith(start)]  # noqa: SIM118 - it is no dictionary
            return {key.removeprefix(start): stored.get_tensor(key) for key in own}
    except SafetensorError as error:
        raise PretrainedError(f"{file} is damaged: {error}") from None
