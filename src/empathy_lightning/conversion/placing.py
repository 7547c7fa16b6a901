"""Released weights on their way into our modules: renamed, placed, and every one accounted for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from empathy_lightning.conversion.outcome import ConversionReport
from empathy_lightning.errors import InputError

Found = dict[str, tuple[str, Tensor]]
"""Our name of a weight: the source's key and its tensor."""

_PRECISIONS = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

_UNREAD = "speech_encoder.decoder."
"""transformers wants a decoder beside Whisper's encoder; no release has one, and nothing reads it."""


def shape_of(weights: Mapping[str, Tensor], key: str) -> torch.Size:
    """Shape of a weight that tells the sizes of a part.

    Raises:
        InputError: If the source lacks it.
    """
    if key not in weights:
        raise InputError(f"the release lacks {key}, from which sizes are read")
    return weights[key].shape


def renamed(
    weights: Mapping[str, Tensor], prefix: str, modules: Mapping[str, str] | None = None, under: str = ""
) -> Found:
    """The source's weights below a prefix, under our names.

    Args:
        weights: All tensors of the source.
        prefix: Taken away.
        modules: Modules' new names by their old ones.
        under: What stands before every name instead of the prefix.
    """
    found: Found = {}
    for key, tensor in weights.items():
        if key.startswith(prefix):
            name = _new_name(key.removeprefix(prefix), modules or {})
            found[under + name] = (key, tensor)
    return found


def _new_name(bare: str, modules: Mapping[str, str]) -> str:
    for old, new in modules.items():
        if bare == old or bare.startswith(f"{old}."):
            return new + bare.removeprefix(old)
    return bare


def place(report: ConversionReport, part: str, module: nn.Module, weights: Found) -> dict[str, Tensor]:
    """The source's tensors for a module, each of its weights noted as used or missing.

    A weight that has two names in the module, as that of a tied head, is placed under the first.

    Args:
        report: Where to note it.
        part: Name of the module in our folder.
        module: May be on the meta device.
        weights: What the source has for it; names that the module lacks are left alone.

    Raises:
        InputError: If a tensor has another shape than the configuration says or cannot be used as it is stored.
    """
    placed: dict[str, Tensor] = {}
    first_names: dict[int, str] = {}
    # With keep_vars, a tied weight is one object under both of its names.
    for name, wanted in module.state_dict(keep_vars=True).items():
        first = first_names.setdefault(id(wanted), name)
        if name in weights:
            key, tensor = weights[name]
            _check(key, tensor, wanted)
            if first == name:
                placed[name] = tensor
            elif first in placed and not _same_bytes(tensor, placed[first]):
                raise InputError(f"{key} is not {weights[first][0]}: a head of its own cannot be converted")
            if key not in report.used:
                report.used.append(key)
        elif f"{part}.{name}".startswith(_UNREAD):
            placed[name] = torch.zeros(wanted.shape)
        elif first == name:
            report.missing.append(f"{part}.{name}")
    return placed


def _check(key: str, tensor: Tensor, wanted: Tensor) -> None:
    if tensor.shape != wanted.shape:
        raise InputError(f"{key} has shape {tuple(tensor.shape)}, but the configuration says {tuple(wanted.shape)}")
    if tensor.dtype not in _PRECISIONS:
        raise InputError(f"{key} is {tensor.dtype}, but only {', '.join(_PRECISIONS.values())} can be converted")


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    # As bytes, since NaN equals nothing and -0.0 equals 0.0.
    return one.dtype == other.dtype and torch.equal(one.view(torch.uint8), other.view(torch.uint8))


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
