"""Which parameters train, and which modules and buffers go with them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from empathy_lightning.errors import InputError, meant


def train_matching(parameters: dict[str, nn.Parameter], patterns: Sequence[str]) -> None:
    """Let the parameters train whose names match a pattern, and freeze all others.

    Args:
        parameters: By name.
        patterns: As in file names.

    Raises:
        InputError: If a pattern matches no name.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            parts = sorted({f"{part_of(name)}.*" for name in parameters})
            there = ", ".join(parts)
            raise InputError(
                f"trainable: no parameter has a name like {pattern!r}; there are {there}{meant(pattern, parts)}"
            )
    for name, parameter in parameters.items():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in patterns))


def part_of(name: str) -> str:
    """The part that a parameter belongs to, such as ``listener.speech_adapter``."""
    return ".".join(name.split(".")[:2])


def frozen(module: nn.Module) -> bool:
    """Whether no parameter trains."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def in_training(root: nn.Module) -> set[nn.Module]:
    """Modules that belong in train mode: all their parameters train, or they have none (dropout) and stand beside."""
    whole: set[nn.Module] = set()
    chosen = {root}
    for module in root.modules():
        own = list(module.parameters())
        if own and all(p.requires_grad for p in own):
            whole.add(module)
            chosen.update(module.modules())
    for module in root.modules():
        children = set(module.children())
        if children & whole or any(p.requires_grad for p in module.parameters(recurse=False)):
            chosen.update(child for child in children if not _has_parameters(child))
    return chosen


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def trained_names(module: nn.Module) -> set[str]:
    """Names of the parameters that train and of the buffers beside them.

    A buffer counts as trained if a parameter of the same submodule trains (batch norm's statistics), or if its
    submodule has no parameter and belongs in train mode (those of a standardisation).
    """
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    homes = {name.rpartition(".")[0] for name in names}
    learning = in_training(module)
    for home, part in module.named_modules():
        if part in learning and not _has_parameters(part):
            homes.add(home)
    return names | {name for name, _ in module.named_buffers() if name.rpartition(".")[0] in homes}
