"""Weights on their way between a folder and the parts of a model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from empathy_lightning.folders import CheckpointError
from empathy_lightning.parts import behind_cache, children, is_entry, loaded_from

_TIED = "model.lm_head.weight"
"""A head that is tied to the embeddings, which would be stored twice."""


def kept_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights of a part that its folder keeps, without those of the parts below it."""
    module = behind_cache(module)
    if loaded_from(module) is not None:
        # Trained here, or by an earlier stage.
        earlier = getattr(module, "tuned", ())
        return {name: p for name, p in module.named_parameters() if p.requires_grad or name in earlier}
    below = tuple(f"{name}." for name, _ in children(module))
    own: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        if not name.startswith(below) and not name.endswith(_TIED):
            own[name] = value
    return own


def own_weights(path: str, found: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
    """Weights of a folder that belong to a part, and not to those below it, without its path."""
    start = f"{path}." if path else ""
    below = tuple(f"{start}{name}." for name, value in found["init_args"].items() if is_entry(value))
    own: dict[str, Any] = {}
    for key, value in weights.items():
        if key.startswith(start) and not key.startswith(below):
            own[key.removeprefix(start)] = value
    return own


def tune(path: str, module: nn.Module, own: dict[str, Any], folder: str | Path) -> None:
    """Put trained weights into a backbone, and remember them for later stages' folders."""
    fill(path, module, own, folder, whole=False)
    module.tuned = frozenset(own)  # type: ignore[assignment]


def warm_start_from(path: str, module: Any, earlier: nn.Module, own: dict[str, Any], folder: str | Path) -> None:
    """Begin an adapter with an emotion as the folder's without one."""
    fill(path, earlier, own, folder)
    try:
        module.warm_start(earlier)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def fill(path: str, module: nn.Module, own: dict[str, Any], folder: str | Path, whole: bool = True) -> None:
    """Put weights into a part; ``whole`` where all of its own must be there."""
    name = path.rpartition(".")[2] or "the model"
    below = tuple(f"{part}." for part, _ in children(module))
    try:
        missing, unexpected = module.load_state_dict(own, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: {name} has other sizes: {' '.join(str(error).split())}"[:300]) from None
    wrong = list(unexpected)
    for key in missing:
        if whole and not key.endswith(_TIED) and not key.startswith(below):
            wrong.append(key)
    if wrong:
        raise CheckpointError(f"{folder}: {name} does not fit: missing or unknown weights {', '.join(wrong[:3])}")


def quantizer_digest(quantizer: Any) -> str | None:
    """What tells a quantizer's units from another's of as many; None of what is no module.

    It is the same however the folder was copied, and in whatever precision it was saved. A vocoder that gives units,
    too, gives those that it was trained on.
    """
    if not isinstance(quantizer, nn.Module):
        return None
    if (known := getattr(quantizer, "quantizer_digest", None)) is not None:
        return str(known)
    found = hashlib.sha256(f"{type(quantizer).__name__} {getattr(quantizer, 'num_units', None)}".encode())
    for name, value in sorted(kept_weights(quantizer).items()):
        found.update(name.encode() + value.detach().cpu().half().numpy().tobytes())
    return found.hexdigest()[:16]
