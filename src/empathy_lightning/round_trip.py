"""What a folder could not bring back is refused before it is trained."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from empathy_lightning.errors import InputError
from empathy_lightning.parts import (
    LIBRARY,
    behind_cache,
    build_value,
    children,
    class_path,
    described,
    entries,
    loaded_from,
    tree,
    trusted_class,
)


def check_round_trip(model: nn.Module) -> None:
    """Refuse a model with a part that its folder could not bring back, before it is trained.

    Raises:
        InputError: If the arguments of a part are lost, or build something else.
    """
    described(model)
    # The innermost first: what is wrong with a part is not told of what holds it.
    for path, module in reversed(list(tree(model))):
        name = path.rpartition(".")[2] or "the model"
        module = behind_cache(module)
        if loaded_from(module) is not None:
            _check_source(name, module)
        elif _holds_backbone(module):
            _check_class(name, type(module))
        else:
            _check_arguments(name, module)


def _holds_backbone(module: nn.Module) -> bool:
    """Whether a part below was loaded, so that building it again would load it again."""
    return any(loaded_from(behind_cache(part)) is not None for _, part in tree(module))


def _check_class(name: str, kind: type) -> None:
    if trusted_class(class_path(kind), [kind.__module__]) is not kind:
        raise InputError(f"{name}: another class has the name {class_path(kind)}: rename one of them")


def _check_arguments(name: str, module: nn.Module) -> None:
    kind = type(module)
    # As config.json brings it back, with lists for tuples.
    described_once = json.loads(json.dumps(described(module, name)))
    _check_class(name, kind)
    homes = [found["class_path"].rpartition(".")[0] for _, found in entries(described_once)]
    try:
        again = _without_weights(kind, described_once["init_args"], homes)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        wayout = ": name its other arguments in __init__, without **kwargs" if "multiple values" in reason else ""
        raise InputError(
            f"{name}: {kind.__name__} cannot be built again from its arguments ({reason}){wayout}"
        ) from error
    if json.loads(json.dumps(described(again, name))) != described_once:
        raise InputError(f"{name}: {kind.__name__} changes an argument before it keeps it: keep it as it is given")
    if _sizes(again) != _sizes(module):
        raise InputError(f"{name}: {kind.__name__} built again from its arguments has other weights")


def _check_source(name: str, module: nn.Module) -> None:
    """Refuse a backbone of a class from elsewhere whose ``source`` would not load it again as it is."""
    kind: Any = type(module)
    source = loaded_from(module) or {}
    if kind.__module__.startswith(f"{LIBRARY}."):
        return
    ours = [base for base in kind.__mro__ if base.__module__.startswith(f"{LIBRARY}.")]
    known = set(inspect.signature(ours[0].from_pretrained).parameters) if ours else {"name_or_path", "revision"}
    parameters = inspect.signature(kind.from_pretrained).parameters
    taken = {key for key, parameter in parameters.items() if parameter.kind is not parameter.VAR_KEYWORD}
    lost = sorted(taken - known - source.keys())
    if lost:
        raise InputError(f"{name}: from_pretrained of {kind.__name__} does not keep {lost[0]!r} in self.source")
    unknown = sorted(source.keys() - taken)
    if unknown and len(taken) == len(parameters):
        raise InputError(f"{name}: from_pretrained of {kind.__name__} does not take {unknown[0]!r} of self.source")


def _without_weights(kind: type[nn.Module], arguments: dict[str, Any], homes: Sequence[str]) -> nn.Module:
    """The module built where its weights take no memory, if its constructor can do without their values."""

    def _built() -> nn.Module:
        return kind(**{name: build_value(value, homes) for name, value in arguments.items()})

    # The trial draws no number of the run's own.
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _built()
        except (NotImplementedError, RuntimeError):
            return _built()


def _sizes(module: nn.Module) -> dict[str, torch.Size]:
    """Shapes of a part's own weights, without those of the parts below it."""
    below = tuple(f"{name}." for name, _ in children(module))
    return {key: value.shape for key, value in module.state_dict().items() if not key.startswith(below)}
